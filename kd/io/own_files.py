"""Deletion of files that `kd` has written, and of nothing else.

A folder of a command may hold more than the command's own files: notes, another project's files, a
symbolic link to somewhere else. Files are deleted by their names, never through a link, and only if
the folder holds nothing unknown; else nothing is deleted and the message says what is in the way.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from kd.errors import UserError
from kd.io.run_folder import RunFolder

_MAX_NAMED = 4  # paths in a message
_UNFINISHED = re.compile(r"\.(?P<name>.+)\.\d+\.tmp")  # see `kd.io.atomic`


def is_link(path: Path) -> bool:
    """Return whether a path is a symbolic link, or a junction of Windows."""
    return path.is_symlink() or bool(getattr(os.path, "isjunction", lambda _: False)(path))


def unfinished_of(path: Path) -> Path | None:
    """Return the file that a process was writing to `path`, from its temporary file's name.

    Example:
        >>> unfinished_of(Path("a/.result.json.4711.tmp")).name
        'result.json'
    """
    match = _UNFINISHED.fullmatch(path.name)
    return None if match is None else path.with_name(match["name"])


def remove_unfinished(folder: Path, is_own: Callable[[Path], bool]) -> None:
    """Delete the temporary files of a folder that belong to files of `is_own`.

    Raises:
        OSError: one cannot be deleted.
    """
    if not folder.is_dir() or is_link(folder):
        return
    for path in folder.iterdir():
        target = unfinished_of(path)
        if target is not None and is_own(target) and path.is_file() and not is_link(path):
            path.unlink(missing_ok=True)


def delete_run(folder: Path, keep_lock: bool = False) -> None:
    """Delete a run's folder.

    Args:
        folder: the run's folder; nothing is done if it does not exist.
        keep_lock: leave the folder with its lock, which the caller holds.

    Raises:
        UserError: it holds something that a run does not write; nothing is deleted then.
        OSError: a file cannot be deleted.
    """
    run = RunFolder(folder)
    delete_folder(folder, run.is_own, run.lock if keep_lock else None)


def delete_folder(folder: Path, is_own: Callable[[Path], bool], keep: Path | None = None) -> None:
    """Delete a folder whose files and subfolders are all of `is_own`.

    Args:
        folder: nothing is done if it does not exist.
        is_own: whether `kd` writes a file, or makes a folder, of this path.
        keep: a file that stays, and with it the folder.

    Raises:
        UserError: it is a link, or holds one, or something that is not own; nothing is deleted.
        OSError: a file cannot be deleted.
    """
    if is_link(folder):
        raise UserError(
            f"{folder} is a symbolic link, so nothing is deleted in it; remove the link"
        )
    if not folder.exists():
        return
    content = list(_walk(folder))
    unknown = [path for path, is_plain in content if not (is_plain and _known(path, is_own))]
    if unknown:
        names = ", ".join(str(path.relative_to(folder)) for path in unknown[:_MAX_NAMED])
        more = f" and {len(unknown) - _MAX_NAMED} more" if len(unknown) > _MAX_NAMED else ""
        raise UserError(
            f"{folder} holds {names}{more}, which kd has not written, so nothing is deleted; "
            "move that away, or delete the folder yourself"
        )
    for path, _ in reversed(content):  # the content of a folder comes after the folder
        if path != keep:
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    if keep is None:
        folder.rmdir()


def _known(path: Path, is_own: Callable[[Path], bool]) -> bool:
    return is_own(unfinished_of(path) or path)


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield everything below a folder, and whether it is a plain file or folder."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        is_folder = stat.S_ISDIR(mode) and not is_link(path)
        yield path, is_folder or stat.S_ISREG(mode)
        if is_folder:
            yield from _walk(path)
