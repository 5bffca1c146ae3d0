"""Locks between processes that are free again when their holders die."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kd.errors import UserError

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`, whose folder exists; log `waiting` if another process has it.

    Raises:
        OSError: the file cannot be written, or the file system knows no locks.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info(waiting)
        lock.acquire()
    except NotImplementedError as error:
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, as far as they ask as well.

    Raises:
        UserError: another process is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process is at work in {folder}; let it end, or choose another folder with "
            "hydra.run.dir=… or hydra.sweep.dir=…"
        ) from None
    except NotImplementedError:
        pass  # a file system without locks: one process alone does no harm
    try:
        yield
    finally:
        lock.release()
