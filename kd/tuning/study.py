"""A search: trials of one study, shared by its workers and kept over their starts."""

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from kd.errors import UserError
from kd.io.locks import clear
from kd.io.result_file import read_result, write_result
from kd.training.run import run
from kd.tuning.pruning import ReportToTrial
from kd.tuning.sampler import suggested
from kd.tuning.space import Space, override
from kd.tuning.storage import Storage

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.ERROR)  # what there is to say is said here


class Surplus(Exception):  # noqa: N818
    """Another worker has begun the last trial meanwhile."""


class Search:
    """Run trials until their number is reached, counted over all workers and starts.

    Args:
        space: what is varied.
        defaults: its keys' values in a run that nothing varies; the first trial.
        compose: makes a run's config from `key=value` overrides.
        experiment: names the run and the space; a storage holds the trials of one such.
        folder: where this worker's trials lie.
        settings: trials, seed, storage, pruning and heartbeat, as in conf/search.yaml.

    Raises:
        UserError: the storage cannot be used, or holds another search.
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
        # A default outside its range takes part in the first trial, but is no proposal's model.
        self.fixed = {k: v for k, v in defaults.items() if v in space[k]}
        self.storage = Storage(settings["storage"] or str(folder / "study.db"))
        with self.storage.errors(), self.storage.alone():
            self.study = self.storage.study(settings)
            known = self.study.user_attrs.get("experiment")
            if known is None:
                self.study.set_user_attr("experiment", experiment)
        if known not in (None, experiment):
            raise UserError(
                f"search.storage: {self.storage.name} holds the search of another run or space; "
                "choose another folder with hydra.run.dir=… or another search.storage"
            )

    def run(self) -> None:
        """Run trials until there are enough, and wait for those of other workers."""
        waiting = False
        with self.storage.errors():
            while True:
                self._fail_stale()
                if len(self.claimed()) < self.trials:
                    self._enqueue_defaults()
                    self._next()
                elif running := [t for t in self.claimed() if t.state == TrialState.RUNNING]:
                    if not waiting:
                        numbers = ", ".join(str(trial.number) for trial in running)
                        log.info("waiting for other workers' trials: %s", numbers)
                    waiting = True
                    time.sleep(1)
                else:
                    return

    def _next(self) -> None:
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(Surplus,))
        except ValueError as error:
            if "Cannot tell" not in str(error):
                raise
            log.warning("another worker missed this one's signs of life and gave up its trial")

    def claimed(self) -> list[FrozenTrial]:
        """The trials that count: finished, or running; not those whose worker was stopped."""
        counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        return self.study.get_trials(deepcopy=False, states=counted)

    def best(self) -> FrozenTrial:
        """The trial with the best validation accuracy; of equal ones, the first."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise UserError("no trial was completed; lower search.pruning or raise search.trials")
        return max(complete, key=lambda trial: (trial.value, -trial.number))

    def _fail_stale(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self.study)

    def _enqueue_defaults(self) -> None:
        """Queue the first trial, where it is not done or its worker was stopped."""
        if self._has_defaults():
            return
        with self.storage.alone():
            if not self._has_defaults():
                self.study.enqueue_trial(self.fixed, user_attrs={"defaults": True})

    def _has_defaults(self) -> bool:
        trials = self.study.get_trials(deepcopy=False)
        return any("defaults" in t.user_attrs and t.state != TrialState.FAIL for t in trials)

    def _objective(self, trial: optuna.Trial) -> float:
        if sum(other.number < trial.number for other in self.claimed()) >= self.trials:
            raise Surplus
        defaults = "defaults" in trial.user_attrs
        keys = self.fixed if defaults else self.space
        values = {key: suggested(trial, key, self.space[key]) for key in keys}
        overrides = [] if defaults else [override(k, v) for k, v in values.items()]
        folder = self.folder / f"trial_{trial.number:04d}"
        trial.set_user_attr("overrides", overrides)
        trial.set_user_attr("folder", str(folder))
        log.info("trial %d: %s", trial.number, " ".join(overrides) or "the defaults")
        accuracy = self._run(trial, self.compose(overrides), folder)
        log.info("trial %d: validation accuracy %.4f", trial.number, accuracy)
        return accuracy

    def _run(self, trial: optuna.Trial, cfg: DictConfig, folder: Path) -> float:
        cfg.paths.run = str(folder)
        clear(folder)  # of a study that is gone
        try:
            # The best is to be no worse than the defaults, so these run to their end.
            report = ReportToTrial(trial, prune="defaults" not in trial.user_attrs)
            result = run(cfg, folder, callbacks=[report], test=False)
        except optuna.TrialPruned as pruned:
            log.info("trial %d pruned: %s", trial.number, pruned)
            write_result(folder, (read_result(folder) or {}) | {"status": "pruned"})
            raise
        except SystemExit:  # Optuna tells of Ctrl-C, and leaves this one running
            self.study.tell(trial.number, state=TrialState.FAIL)
            raise
        except UpdateFinishedTrialError:
            raise  # another worker held this one for dead
        except Exception as error:
            if "defaults" in trial.user_attrs:
                raise
            # Told as pruned, not as failed, so that the next proposals heed it.
            log.warning("trial %d failed: %s", trial.number, error)
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise optuna.TrialPruned(str(error)) from error
        trial.set_user_attr("best_epoch", result["best_epoch"])
        return float(result["val/acc"])
