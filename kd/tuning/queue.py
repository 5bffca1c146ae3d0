"""The trials of a search as a queue: created in advance, each claimed by one worker."""

import copy
import logging
import time
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from kd.tuning.storage import Storage
from kd.tuning.worker import OWNER, Liveness, Worker

log = logging.getLogger(__name__)

DEFAULTS = "defaults"  # user attribute of the trial that has the default settings
_POLL = 1.0  # seconds between two looks at other workers' trials


class TrialLost(Exception):  # noqa: N818
    """Another worker has taken this worker's trial, whose heartbeats it missed."""


class TrialQueue:
    """The first `trials` trials of a study.

    A trial is waiting, running or finished. Its number is never burnt: a trial whose worker has
    died is claimed anew, with the values that it had. Claims are exclusive where the storage has a
    lock; elsewhere two workers that claim a dead worker's trial at the same moment may both run it.

    Args:
        study: the study.
        backend: its storage.
        storage: for exclusive steps.
        trials: how many there are.
        fixed: the values of the first trial.
        folder: of this worker.
        heartbeat: seconds between two heartbeats of a worker.
    """

    def __init__(
        self,
        study: optuna.Study,
        backend: BaseStorage,
        storage: Storage,
        trials: int,
        fixed: dict[str, Any],
        folder: Path,
        heartbeat: float,
    ) -> None:
        self.study, self.backend, self.storage = study, backend, storage
        self.size, self.fixed = trials, fixed
        self.worker, self.liveness = Worker(folder, heartbeat), Liveness(folder, heartbeat)
        self._study_id = backend.get_study_id_from_name(study.study_name)

    def fill(self) -> None:
        """Create the trials that are missing; the first has the default settings."""
        with self.storage.exclusive():
            trials = self.trials()
            if not any(DEFAULTS in trial.user_attrs for trial in trials):
                self.study.enqueue_trial(self.fixed, user_attrs={DEFAULTS: True})
            for _ in range(len(self.trials()), self.size):
                self.study.enqueue_trial({})

    def trials(self) -> list[FrozenTrial]:
        """Return the trials in order of number, without those that somebody declared failed."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state != TrialState.FAIL][: self.size]

    def claim(self) -> FrozenTrial | None:
        """Claim the first trial that no living worker runs; wait for the trials of the others.

        Returns:
            The trial as the storage has it; None: all trials are finished.
        """
        waiting = False
        while True:
            with self.storage.exclusive():
                unfinished = [trial for trial in self.trials() if not trial.state.is_finished()]
                claimed = self._claim_first(unfinished)
            self.liveness.started = True
            if claimed is not None or not unfinished:
                return claimed
            if not waiting:
                numbers = ", ".join(str(trial.number) for trial in unfinished if _runs(trial))
                log.info("waiting for other workers' trials: %s", numbers)
            waiting = True
            time.sleep(_POLL)

    def _claim_first(self, unfinished: list[FrozenTrial]) -> FrozenTrial | None:
        dead = {t.number: self._is_abandoned(t) for t in unfinished if _runs(t)}
        # A new trial would be proposed without the result of one that may have to be run again.
        unknown = None in dead.values()
        for trial in unfinished:
            known = copy.deepcopy(trial)  # some storages update theirs
            if dead.get(trial.number, not _runs(trial) and not unknown) and self._take(trial):
                return known
        return None

    def _is_abandoned(self, trial: FrozenTrial) -> bool | None:
        # A claim is exclusive: one without an owner was not completed.
        if not trial.user_attrs.get(OWNER) and self.storage.exclusive.is_possible:
            return True
        return self.liveness.is_dead(trial)

    def _take(self, trial: FrozenTrial) -> bool:
        trial_id = self.id_of(trial)
        new = trial.state == TrialState.WAITING
        if new and not self.backend.set_trial_state_values(trial_id, TrialState.RUNNING):
            return False  # another worker was faster
        self.backend.set_trial_user_attr(trial_id, OWNER, self.worker.owner())
        return True

    def release(self, trial: FrozenTrial) -> None:
        """Give up a trial, which the next worker claims without waiting."""
        if self.is_ours(trial):
            self.backend.set_trial_user_attr(self.id_of(trial), OWNER, None)

    def is_ours(self, trial: FrozenTrial) -> bool:
        """Return whether a trial is still this worker's."""
        return self.worker.owns(self.backend.get_trial(self.id_of(trial)))

    def id_of(self, trial: FrozenTrial) -> int:
        """Return the storage's own number of a trial."""
        return self.backend.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)


def _runs(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING
