"""Files that are there whole or not at all, whatever happens to the process or the disk."""

import contextlib
import os
from pathlib import Path

UNFINISHED = ".*.tmp"  # what files are called until they are whole


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write beside the place, flush to the disk, then rename; what was there stays until then.

    Raises:
        OSError: the disk is full, or the folder cannot be written; names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # a folder that is none
            temporary.unlink(missing_ok=True)


def link_atomic(source: Path, path: Path) -> None:
    """Give a whole file a second name, in place of what was there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        os.link(source, temporary)
        temporary.replace(path)
    except OSError:  # a file system without hard links
        write_atomic(path, source.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)
