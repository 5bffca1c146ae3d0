"""Locks between processes, released by the operating system when their holder dies."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kd.errors import UserError
from kd.io.own_files import delete_run, is_link
from kd.io.regular_files import check_regular
from kd.io.run_folder import RunFolder
from kd.io.run_places import check_places

log = logging.getLogger(__name__)

_MAX_LOCK = 100  # bytes; a lock is an empty file
# Errors of flock(2) on file systems without locks, such as some network mounts.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_HELD: dict[Path, FileLock] = {}  # a lock that is collected is released


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
        UserError: another process holds the lock, or the run would replace what is not a run's, see
            `check_places`; or the folder was deleted within the block.
        OSError: the folder cannot be written.
    """
    check_places(folder)
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
    path = RunFolder(folder).lock
    held = path.exists()
    try:
        yield
        if held and not path.exists():
            raise UserError(f"{folder} was deleted while the run wrote to it; start it again")
    finally:
        lock.release()


def hold(path: Path) -> bool:
    """Hold a lock until the process ends, in the file `path`, which is created.

    Returns:
        False on a file system without locks.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    _HELD[path] = lock
    return True


def is_held(path: Path) -> bool:
    """Return whether a process, this one included, holds the lock of an existing file."""
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def clear(folder: Path) -> None:
    """Delete the content of a run's folder, except its lock.

    Raises:
        UserError: another process uses the folder; or it is a symbolic link, or holds something
            that a run does not write, and nothing is deleted.
    """
    if is_link(folder):
        raise UserError(
            f"{folder} is a symbolic link, where a run makes its folder; remove the link"
        )
    with exclusive_folder(folder):
        delete_run(folder, keep_lock=True)


def _lock(path: Path) -> FileLock:
    # Where there is no flock, filelock would fall back to a marker file. That one outlives a holder
    # on another machine, and the lock would never be free again.
    if is_link(path) or (path.exists() and check_regular(path) > _MAX_LOCK):
        raise UserError(f"{path} is a link, or no lock of kd; remove it, or choose another folder")
    return FileLock(path, fallback_to_soft=False)
