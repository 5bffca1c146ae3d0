"""A search: the trials of one Optuna study, shared by workers and kept over restarts."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, TrialState

from kd.errors import UserError
from kd.tuning.identity import claim_folder, refuse_other_studies, study_name
from kd.tuning.queue import DEFAULTS, TrialLost, TrialQueue
from kd.tuning.sampler import suggest
from kd.tuning.space import Space, contains
from kd.tuning.storage import Storage, open_study
from kd.tuning.trial import prepare_folder, run_trial
from kd.tuning.trial_overrides import override

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.ERROR)  # the lines below replace Optuna's

_SHOWN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class Search:
    """Run trials until their number, over all workers and restarts, is reached.

    A search that is killed and started again proposes and finds what it would have found: a trial
    that was interrupted keeps its number and its values, and its run resumes from its checkpoint.
    This holds for one worker at a time. Several workers share the same trials, each of which is run
    to its end once, but what a trial proposes then depends on which others are finished.

    Args:
        space: distributions by key.
        defaults: values of these keys in the default config, which is the first trial.
        compose: composes a trial's config from `key=value` overrides.
        identity: what must be equal for the search to be resumed, see `search_identity`.
        folder: parent of this worker's trial folders.
        settings: trials, seed, storage, pruning and heartbeat, as in conf/search.yaml.

    Raises:
        UserError: the storage cannot be used, or it or the folder holds another search.
    """

    def __init__(
        self,
        space: Space,
        defaults: dict[str, Any],
        compose: Callable[[list[str]], DictConfig],
        identity: dict[str, Any],
        folder: Path,
        settings: dict[str, Any],
    ) -> None:
        self.space, self.compose, self.folder = space, compose, folder
        # A default outside its range is part of the first trial, but the sampler cannot model it.
        self.fixed = {k: v for k, v in defaults.items() if contains(space[k], v)}
        self.storage = Storage(settings["storage"] or str(folder / "study.db"))
        name = study_name(identity)
        self.backend = self.storage.open()
        with self.storage.errors(), self.storage.exclusive():
            others = refuse_other_studies(self.backend, self.storage.url, name)
            claim_folder(folder, self.storage.url, identity)
            self.study = open_study(self.backend, name, space, settings)
        self.queue = TrialQueue(
            *(self.study, self.backend, self.storage, settings["trials"]),
            *(self.fixed, folder, settings["heartbeat"]),
        )
        self._log_start(others)

    def _log_start(self, others: int) -> None:
        if self.storage.url.file is None:
            done = sum(t.state.is_finished() for t in self.study.get_trials(deepcopy=False))
            text = "search %s in %s: %d trials finished (%d other searches there)"
            log.info(text, self.study.study_name, self.storage.url.shown, done, others)

    def run(self) -> None:
        """Run trials until there are enough, then wait for those of other workers."""
        with self.storage.errors():
            self.queue.fill()
            while (known := self.queue.claim()) is not None:
                try:
                    self._run(known)
                except TrialLost:
                    log.warning(
                        "trial %d: another worker missed this worker's heartbeats and runs it",
                        known.number,
                    )
                except BaseException:
                    with suppress(Exception):  # the first exception counts
                        self.queue.release(known)
                    raise
        self.queue.worker.end()

    def counted(self) -> list[FrozenTrial]:
        """Return the trials that are finished or running."""
        return self.study.get_trials(deepcopy=False, states=_SHOWN)

    def best(self) -> FrozenTrial:
        """Return the trial with the best validation accuracy; of equal ones, the first."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise UserError("no trial completed; lower search.pruning or raise search.trials")
        return max(complete, key=lambda trial: (trial.value, -trial.number))

    def _run(self, known: FrozenTrial) -> None:
        """Run a claimed trial and record its outcome."""
        trial_id = self.queue.id_of(known)
        with self.queue.worker.beating(self.backend, trial_id):
            trial = optuna.Trial(self.study, trial_id)
            try:
                accuracy, state = self._objective(trial, known), None
            except optuna.TrialPruned:
                accuracy, state = None, TrialState.PRUNED
        self._check(known)
        self.study.tell(known.number, accuracy, state, skip_if_finished=True)
        if accuracy is not None:
            log.info("trial %d: %.4f on the validation set", known.number, accuracy)

    def _objective(self, trial: optuna.Trial, known: FrozenTrial) -> float:
        defaults = DEFAULTS in known.user_attrs
        keys = self.fixed if defaults else self.space
        values = {key: suggest(trial, key, self.space[key]) for key in keys}
        overrides = [] if defaults else [override(k, v) for k, v in values.items()]
        trial.set_user_attr("overrides", overrides)
        folder = prepare_folder(trial, known, self.folder)
        resumed = " (resumed)" if known.state == TrialState.RUNNING else ""
        settings = " ".join(overrides) or "default settings"
        log.info("trial %d%s: %s", trial.number, resumed, settings)
        return run_trial(trial, known, self.compose(overrides), folder, lambda: self._check(known))

    def _check(self, known: FrozenTrial) -> None:
        if not self.queue.is_ours(known):
            raise TrialLost
