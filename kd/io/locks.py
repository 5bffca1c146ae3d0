"""Locks between processes that are free again when their holders die."""

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kd.errors import UserError
from kd.io.run_folder import RunFolder

log = logging.getLogger(__name__)


_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}  # what file systems without them say


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`, whose folder exists; log `waiting` if another process has it.

    Raises:
        OSError: the file cannot be written, or the file system knows no locks.
    """
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info(waiting)
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise OSError(errno.ENOLCK, "the file system knows no locks", str(path)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made, as far as they ask as well.

    On a file system without locks nobody is kept out.

    Raises:
        UserError: another process is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(RunFolder(folder).lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process is at work in {folder}; let it end, or choose another folder with "
            "hydra.run.dir=… or hydra.sweep.dir=…"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def clear(folder: Path) -> None:
    """Delete what a folder holds.

    Raises:
        UserError: another process is at work there.
    """
    with exclusive_folder(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != RunFolder(folder).lock:
                path.unlink()


def _lock(path: Path) -> FileLock:
    # filelock's substitute where there is no flock outlives a holder on another machine.
    return FileLock(path, fallback_to_soft=False)
