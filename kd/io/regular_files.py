"""Reading of regular files up to a limited size.

A folder may come from a stranger. Opening a FIFO waits for a writer, a device may never end, and a
directory fails with another error in every reader; each is refused here before it is read.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from kd.errors import UserError

MB = 10**6
_OTHER_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
# Not on Windows, which has no such files in folders either
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


def real_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path without links; `Path.resolve` raises RuntimeError for a link loop.

    Example:
        >>> real_path("/usr/../tmp/x").name
        'x'
    """
    return Path(os.path.realpath(path))


def check_regular(path: Path, limit: int | None = None) -> int:
    """Check a file before a library opens it by its name.

    Args:
        path: the file; symbolic links are followed.
        limit: the most bytes that it may have; None: any number.

    Returns:
        Its size in bytes.

    Raises:
        UserError: it is no regular file, or larger than the limit.
        OSError: it is missing or unreachable.
    """
    return _checked(path, path.stat(), limit)


def open_regular(path: Path, limit: int | None = None) -> BinaryIO:
    """Open a regular file for reading; it cannot be exchanged for another kind on the way.

    Args:
        path: the file; symbolic links are followed.
        limit: the most bytes that it may have; None: any number.

    Raises:
        UserError: it is no regular file, or larger than the limit.
        OSError: it is missing or cannot be opened.
    """
    check_regular(path, limit)  # first, since opening a device may change its state
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)
    try:
        _checked(path, os.fstat(descriptor), limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        UserError: it is no regular file, or larger than the limit.
        OSError: it is missing or cannot be read; `filename` is the path.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a").write_bytes(b"12345")
        5
        >>> read_bytes(folder / "a", limit=10)
        b'12345'
    """
    try:
        with open_regular(path, limit) as file:
            content = file.read(limit + 1)  # files of /proc report a size of 0
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error
    if len(content) > limit:
        raise _too_large(path, len(content), limit)
    return content


def read_text(path: Path, limit: int) -> str:
    """Return the text of a regular UTF-8 file of at most `limit` bytes, without a byte order mark.

    Raises:
        UserError: it is no regular file, larger than the limit, or no UTF-8 text.
        OSError: it is missing or cannot be read.
    """
    try:
        text = read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is no text in UTF-8: {error.reason} at byte {error.start}"
        ) from None
    return text.replace("\r\n", "\n")


def _checked(path: Path, status: os.stat_result, limit: int | None) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = _OTHER_KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise UserError(f"{path} is {kind}, not a file that can be read")
    if limit is not None and status.st_size > limit:
        raise _too_large(path, status.st_size, limit)
    return status.st_size


def _too_large(path: Path, size: int, limit: int) -> UserError:
    return UserError(f"{path} has {size / MB:.3g} MB, more than the {limit / MB:.3g} MB accepted")
