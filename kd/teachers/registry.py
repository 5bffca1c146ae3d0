"""Teachers that were trained here, so that each is trained once."""

import shutil
from collections.abc import Callable
from pathlib import Path

from kd.errors import OutOfMemoryError, UserError
from kd.io.locks import locked
from kd.io.result_file import read_result
from kd.io.run_folder import RunFolder


class Registry:
    """A folder of finished teacher runs, shared by all runs and all processes.

    An entry is an ordinary run folder. It appears under its name complete or not at all: it is
    trained in a hidden folder beside and then renamed.

    Args:
        root: where the entries lie; made if it does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, name: str) -> Path | None:
        """Return the folder of the finished teacher `name`, if there is one."""
        folder = self.root / name
        return folder if _finished(folder) else None

    def get_or_train(self, name: str, train: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder of teacher `name` and whether it had to be trained now.

        Concurrent callers of one name wait for the first, which calls `train(folder)`. The lock
        belongs to the process: it is free again when its holder dies. What that one left in
        `folder` is there for the next, so that it can go on; after a mistake in the settings it is
        deleted.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for the process that is training teacher {name}"
        with locked(self.root / f".{name}.lock", waiting):
            if (found := self.find(name)) is not None:
                return found, False
            work, folder = self.root / f".{name}.unfinished", self.root / name
            # `work` was left by a process that died; nobody is in it, since the lock is ours.
            shutil.rmtree(folder, ignore_errors=True)
            try:
                train(work)
            except OutOfMemoryError:
                raise
            except UserError:
                shutil.rmtree(work, ignore_errors=True)
                raise
            work.rename(folder)
            return folder, True


def _finished(folder: Path) -> bool:
    result = read_result(folder) or {}
    return result.get("status") == "completed" and RunFolder(folder).weights.is_file()
