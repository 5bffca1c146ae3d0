"""Registry of the teachers trained on this machine, so that each is trained once."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from kd.errors import OutOfMemoryError, UserError
from kd.io.locks import locked
from kd.io.own_files import delete_run
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder


class Registry:
    """A folder of completed teacher runs, shared by all runs and processes.

    An entry is an ordinary run folder. It is trained in a hidden folder and renamed when complete,
    so a visible entry is always complete.

    Args:
        root: folder of the entries; created if missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, name: str) -> Path | None:
        """Return the folder of the completed teacher `name`; None: there is none."""
        folder = self.root / name
        return folder if _completed(folder) else None

    def get_or_train(self, name: str, train: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder of teacher `name`, and whether it was trained by this call.

        Concurrent callers with the same name wait for the first. The lock is released when its
        process dies; the next caller finds the unfinished folder and can resume from it. After a
        UserError, which the same settings would raise again, the unfinished folder is deleted.

        Args:
            name: of the entry.
            train: trains the teacher in the given folder.

        Raises:
            UserError: an incomplete or damaged entry holds something that a run does not write.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for the process that is training teacher {name}"
        with locked(self.root / f".{name}.lock", waiting):
            if (found := self.find(name)) is not None:
                return found, False
            work, folder = self.root / f".{name}.unfinished", self.root / name
            # An incomplete or damaged entry. `work` may be left by a process that died: the lock is
            # ours, so no other process is using it.
            delete_run(folder)
            try:
                train(work)
            except OutOfMemoryError:  # a UserError that other jobs on the device may have caused
                raise
            except UserError:
                with contextlib.suppress(UserError, OSError):  # the first error is the cause
                    delete_run(work)
                raise
            work.rename(folder)
            return folder, True


def _completed(folder: Path) -> bool:
    result = read_result(folder) or {}
    return result.get("status") == "completed" and RunFolder(folder).weights.is_file()
