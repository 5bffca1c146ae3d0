"""Atomic file writes: a reader sees the old file or the new one, never a part of either."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """Yield a path to write to; at the end of the block that file replaces `path`.

    The temporary file lies in the same folder, since a rename is atomic only within a file system.
    It is deleted if the block or the rename fails; `path` is then as it was before.

    Args:
        path: the file to write; its folder is created.
        sync: flush the content to the disk before the rename, so that it survives a power failure.

    Raises:
        OSError: the disk is full or the folder cannot be written; `filename` is `path`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a" / "figures.csv"
        >>> with replacing(path) as temporary:
        ...     _ = temporary.write_text("acc,nll")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('acc,nll', 1)
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # safetensors creates its files with mode 0600, which excludes the others of a group from
        # a shared cache; created here, the file gets the mode that the umask allows.
        _create(temporary)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        if sync:
            _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:  # such as one that a library's error was turned into
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _delete(temporary)


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write a file as `replacing` does.

    Raises:
        OSError: the disk is full or the folder cannot be written; `filename` is `path`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def link_atomic(source: Path, path: Path) -> None:
    """Give a complete file a second name, which replaces the file that had it.

    On a file system without hard links the content is copied.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = _temporary(path)
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        temporary.replace(path)
    except OSError:
        write_atomic(path, source.read_bytes())
    finally:
        _delete(temporary)


def _temporary(path: Path) -> Path:
    # Two processes may write the same file, so the name holds the process's number.
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _create(path: Path) -> None:
    """Create an empty file; what lies there, also a link to somewhere else, is removed first."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _delete(temporary: Path) -> None:
    with contextlib.suppress(OSError):  # `path.parent` may be a file
        temporary.unlink(missing_ok=True)
