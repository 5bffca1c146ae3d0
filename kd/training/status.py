"""Status and result of a run in progress: result.json is written however the run ends."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import torch
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from omegaconf import DictConfig, OmegaConf

from kd.config.compose import plain
from kd.config.identity import Identity
from kd.config.record import write_record
from kd.io.provenance import git_commit, library_versions
from kd.io.result_file import FORMAT, Result, read_result, write_result
from kd.io.run_folder import RunFolder
from kd.tasks.base import Task
from kd.training.acquired import AcquiredTeacher

_ROLES = ("method", "teacher", "student", "data", "mode")


class RunStatus:
    """Context manager that records one run in its folder; the first process alone writes.

    A run passes three points. Created, it is `failed` and leaves the folder as it is. After
    `accept`, its config is recorded unless the folder holds another. After `begin`, the folder
    belongs to it: a finished run with other settings, from which it resumes, is replaced.

    An exception is recorded under `error` and raised again; Ctrl-C and SIGTERM end as SystemExit
    with code 130 and 143 (Lightning itself ends with 0 or 1).

    Args:
        cfg: the composed config, not checked yet.
        folder: the run's folder.
        overrides: of the command line; None for a run that is part of another.
    """

    def __init__(self, cfg: DictConfig, folder: Path, overrides: Sequence[str] | None) -> None:
        self.cfg, self.folder, self.overrides = cfg, folder, overrides
        self._result: dict[str, Any] = {"format": FORMAT, "status": "failed"}
        self._result |= {role: plain(OmegaConf.select(cfg, f"{role}.name")) for role in _ROLES}
        # Read before this run writes: a mistake that is found later must not cost a finished run.
        self._replaces_finished = (read_result(folder) or {}).get("status") == "completed"
        self._begun = False

    @property
    def result(self) -> Result:
        """What result.json holds, but for the checksum."""
        return cast(Result, dict(self._result))

    def accept(self, task: Task) -> None:
        """Record the task and the config, which has passed its check."""
        self._result |= {"task": task.name, "seed": self.cfg.seed}
        self._result |= {"git_commit": git_commit(), "threads": torch.get_num_threads()}
        if not RunFolder(self.folder).config.is_file():
            rank_zero_only(write_record)(self.folder, self.cfg, self.overrides)

    def begin(
        self, identity: Identity, recipe: str | None, acquired: AcquiredTeacher | None
    ) -> None:
        """Take over the folder: all parts are built, and training begins.

        Args:
            identity: of the run.
            recipe: hash of what all its seeds have in common.
            acquired: the teacher; None: there is none.
        """
        self._begun = True
        self._result |= {
            "config_hash": identity.hash,
            "recipe_hash": recipe,
            "data/fingerprint": identity.data,
            "teacher/weights_hash": identity.teacher,
            "teacher/recipe_hash": None if acquired is None else acquired.recipe_hash,
            "student/start_hash": identity.start,
            "changes": identity.changes,
        }
        rank_zero_only(write_record)(self.folder, self.cfg, self.overrides)
        if self._replaces_finished:
            unfinished = cast(Result, self._result | {"error": "not finished"})
            rank_zero_only(write_result)(self.folder, unfinished)

    def complete(self, figures: Result, tested: bool) -> None:
        """Add the figures of the evaluation."""
        self._result |= figures
        self._result["status"] = "completed" if tested else "untested"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        if error is not None:
            said = f"{type(error).__name__}: {error}"
            self._result["error"] = "interrupted" if interrupted else said
        self._result["versions"] = library_versions()
        if self._begun or not self._replaces_finished:  # else the finished run stays
            rank_zero_only(write_result)(self.folder, self.result)
        if interrupted:
            raise SystemExit(_exit_code(error)) from None


def _exit_code(stop: BaseException | None) -> int:
    """128 + the number of the signal."""
    if isinstance(stop, SystemExit) and stop.code in (130, 143):
        return int(stop.code)  # of the teacher's own training, within this run
    return 143 if isinstance(stop, SIGTERMException) else 130
