"""Check of a folder before a run writes to it: no file of the user's is overwritten."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kd.errors import UserError
from kd.io.documents import read_json, read_yaml
from kd.io.own_files import is_link
from kd.io.run_folder import RunFolder

_REMEDY = "choose another folder with hydra.run.dir=… or hydra.sweep.dir=…"
# Keys of the config that a run records, and of its result
_CONFIG = {"data", "method", "mode", "student", "teacher", "trainer"}
_RESULT = {"status", "data", "method", "mode", "student", "teacher"}


def check_places(folder: Path) -> None:
    """Refuse a folder in which a run would overwrite what is not a run's, or write elsewhere.

    Args:
        folder: the run's folder, which need not exist.

    Raises:
        UserError: it is a file; something of another kind, or a link, stands where the run writes a
            file; or there are such files, and neither config nor result says that a run wrote them.
        OSError: the folder cannot be read.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; {_REMEDY}")
    run = RunFolder(folder)
    found = list(_existing(run))
    for path, mode in found:
        expected = stat.S_ISDIR if path in run.folders() else stat.S_ISREG
        if is_link(path) or not expected(mode):
            kind = "a symbolic link" if is_link(path) else _kind(mode)
            what = "its folder" if path in run.folders() else "its file"
            raise UserError(f"{path} is {kind}, where the run has {what}; remove it, or {_REMEDY}")
    files = [path for path, mode in found if stat.S_ISREG(mode) and _is_replaced(run, path)]
    if files and not _has_record(run):
        raise UserError(
            f"{folder} holds {files[0].relative_to(folder)}, which the run would replace, and "
            f"neither its {run.config.relative_to(folder)} nor its {run.result.name} is that of a "
            f"run; {_REMEDY}"
        )


def _existing(run: RunFolder) -> Iterator[tuple[Path, int]]:
    """Yield what lies at the places of a run's files and folders, with its mode."""
    for parent in (run.root, *run.folders()):
        if parent.is_dir() and not (parent != run.root and is_link(parent)):
            for path in parent.iterdir():
                if run.is_own(path):
                    yield path, path.lstat().st_mode


def _is_replaced(run: RunFolder, path: Path) -> bool:
    """Whether a run replaces the file; a checkpoint of another run is refused by itself."""
    appended = path.suffix == ".log" or path.name.startswith("events.")
    return path not in (run.lock, run.basis) and path.parent != run.checkpoints and not appended


def _has_record(run: RunFolder) -> bool:
    for read, path, keys in ((read_yaml, run.config, _CONFIG), (read_json, run.result, _RESULT)):
        try:
            content = read(path)
        except (OSError, UserError):
            continue
        if isinstance(content, dict) and keys <= content.keys():
            return True
    return False


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file", stat.S_IFIFO: "a named pipe"}
    return kinds.get(stat.S_IFMT(mode), "no regular file")
