"""A search: the trials of one Optuna study, shared by workers and kept over restarts."""

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from kd.errors import UserError
from kd.tuning.sampler import suggest
from kd.tuning.space import Space, contains
from kd.tuning.storage import Storage
from kd.tuning.trial import DEFAULTS, run_trial
from kd.tuning.trial_overrides import override

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.ERROR)  # the lines below replace Optuna's


class Surplus(Exception):  # noqa: N818
    """Another worker has started the last trial in the meantime."""


class Search:
    """Run trials until their number, over all workers and restarts, is reached.

    Args:
        space: distributions by key.
        defaults: values of these keys in the default config, which is the first trial.
        compose: composes a trial's config from `key=value` overrides.
        experiment: hash of the default config and the space; a storage holds one experiment.
        folder: parent of this worker's trial folders.
        settings: trials, seed, storage, pruning and heartbeat, as in conf/search.yaml.

    Raises:
        UserError: the storage cannot be used, or holds another experiment.
    """

    def __init__(
        self,
        space: Space,
        defaults: dict[str, Any],
        compose: Callable[[list[str]], DictConfig],
        experiment: str,
        folder: Path,
        settings: dict[str, Any],
    ) -> None:
        self.space, self.compose, self.folder = space, compose, folder
        self.trials = settings["trials"]
        # A default outside its range is part of the first trial, but the sampler cannot model it.
        self.fixed = {k: v for k, v in defaults.items() if contains(space[k], v)}
        self.storage = Storage(settings["storage"] or str(folder / "study.db"))
        with self.storage.errors(), self.storage.exclusive():
            self.study = self.storage.study(settings)
            known = self.study.user_attrs.get("experiment")
            if known is None:
                self.study.set_user_attr("experiment", experiment)
        if known not in (None, experiment):
            raise UserError(
                f"search.storage: {self.storage.name} holds the search of another config or space; "
                "choose another folder with hydra.run.dir=… or another search.storage"
            )

    def run(self) -> None:
        """Run trials until there are enough, then wait for those of other workers."""
        waiting = False
        with self.storage.errors():
            while True:
                self._fail_stale()
                if len(self.counted()) < self.trials:
                    self._enqueue_defaults()
                    self._run_next()
                elif running := [t for t in self.counted() if t.state == TrialState.RUNNING]:
                    if not waiting:
                        numbers = ", ".join(str(trial.number) for trial in running)
                        log.info("waiting for other workers' trials: %s", numbers)
                    waiting = True
                    time.sleep(1)
                else:
                    return

    def counted(self) -> list[FrozenTrial]:
        """Return the trials that count: finished or running, not those whose worker stopped."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        return self.study.get_trials(deepcopy=False, states=states)

    def best(self) -> FrozenTrial:
        """Return the trial with the best validation accuracy; of equal ones, the first."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise UserError("no trial completed; lower search.pruning or raise search.trials")
        return max(complete, key=lambda trial: (trial.value, -trial.number))

    def _run_next(self) -> None:
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(Surplus,))
        except ValueError as error:
            # Optuna's message when the trial was finished by somebody else; it has no own type.
            if "Cannot tell" not in str(error):
                raise
            log.warning(
                "another worker missed this worker's heartbeats and declared its trial dead"
            )

    def _fail_stale(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)

    def _enqueue_defaults(self) -> None:
        """Queue the trial with the default settings, unless it exists."""
        if self._has_defaults():
            return
        with self.storage.exclusive():
            if not self._has_defaults():  # another worker may have been faster
                self.study.enqueue_trial(self.fixed, user_attrs={DEFAULTS: True})

    def _has_defaults(self) -> bool:
        trials = self.study.get_trials(deepcopy=False)
        return any(DEFAULTS in t.user_attrs and t.state != TrialState.FAIL for t in trials)

    def _objective(self, trial: optuna.Trial) -> float:
        if sum(other.number < trial.number for other in self.counted()) >= self.trials:
            raise Surplus
        defaults = DEFAULTS in trial.user_attrs
        keys = self.fixed if defaults else self.space
        values = {key: suggest(trial, key, self.space[key]) for key in keys}
        overrides = [] if defaults else [override(k, v) for k, v in values.items()]
        folder = self.folder / f"trial_{trial.number:04d}"
        trial.set_user_attr("overrides", overrides)
        trial.set_user_attr("folder", str(folder))
        log.info("trial %d: %s", trial.number, " ".join(overrides) or "default settings")
        accuracy = run_trial(trial, self.compose(overrides), folder)
        log.info("trial %d: validation accuracy %.4f", trial.number, accuracy)
        return accuracy
