"""Replacement of a whole folder by another, without a moment at which neither is there."""

import ctypes
import os
import sys
from pathlib import Path

_AT_FDCWD = -100  # <fcntl.h>: paths are relative to the working directory
_RENAME_EXCHANGE = 2  # <linux/fs.h>; renameat2(2) of Linux 3.15 and glibc 2.28


def replace_folder(new: Path, folder: Path, aside: Path) -> None:
    """Move `new` to `folder`; what `folder` was is then `new` or `aside`, for the caller to delete.

    On Linux two folders change places in one system call, so that a kill leaves one of them. Where
    the system or the file system has no such call, `folder` is first moved to `aside`, and back if
    the second move fails.

    Args:
        new: the complete folder, in the same file system.
        folder: may not exist yet.
        aside: a path that does not exist, in the same file system.

    Raises:
        OSError: it cannot be moved; `folder` is then as it was before.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp())
        >>> for name in ("old", "new"):
        ...     (place / name).mkdir()
        ...     _ = (place / name / name).write_text("")
        >>> replace_folder(place / "new", place / "old", place / "aside")
        >>> [path.name for path in (place / "old").iterdir()]
        ['new']
    """
    if not folder.exists():
        new.rename(folder)
    elif not _exchange(new, folder):
        folder.rename(aside)
        try:
            new.rename(folder)
        except BaseException:
            aside.rename(folder)
            raise


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places; False if that is not possible here."""
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    if call is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return bool(call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)
