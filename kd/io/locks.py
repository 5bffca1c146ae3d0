"""Locks between processes, released by the operating system when their holder dies."""

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

# Errors of flock(2) on file systems without locks, such as some network mounts.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock of a file.

    Args:
        path: the lock file; its folder exists.
        waiting: logged if another process holds the lock; the call then waits for it.

    Raises:
        OSError: the file cannot be written, or its file system has no locks.
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
        raise OSError(errno.ENOLCK, "its file system has no locks", str(path)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder, which is created.

    On a file system without locks the folder is used without one.

    Raises:
        UserError: another process holds the lock.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(RunFolder(folder).lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process uses {folder}; wait until it ends, or choose another folder with "
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
    """Delete the content of a run's folder, except its lock.

    Raises:
        UserError: another process uses the folder.
    """
    with exclusive_folder(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != RunFolder(folder).lock:
                path.unlink()


def _lock(path: Path) -> FileLock:
    # Where there is no flock, filelock would fall back to a marker file. That one outlives a holder
    # on another machine, and the lock would never be free again.
    return FileLock(path, fallback_to_soft=False)
