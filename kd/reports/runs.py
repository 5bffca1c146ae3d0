"""The runs below a folder: finished, failed, without a result yet, or not to be believed."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd.errors import UserError, nearest
from kd.io.checksums import is_intact
from kd.io.run_folder import RunFolder
from kd.reports.settings import LOADER, ROLES, Settings, read_settings

RESULT = RunFolder(Path()).result.name
_TRIALS = ("untested", "pruned")
_STATES = ("completed", "failed", *_TRIALS)
# Never searched: checkpoints and caches hold no runs, and a teacher's own run is no job.
_SKIPPED = {"checkpoints", "csv", "cache", "teachers", "report"}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where it lies.
        result: what its result.json holds.
        settings: what it was told, flat, with the names of its roles; the seed is not among them.
        overrides: its command line, as far as it is known.
        written: when the result was written, in seconds since 1970.
    """

    folder: Path
    result: dict[str, Any]
    settings: Settings
    overrides: tuple[str, ...]
    written: float

    @property
    def seed(self) -> int:
        return int(self.result["seed"])


class Unfinished(NamedTuple):
    """A folder without a number: `failed`, `running`, `broken` or `set aside`, and why."""

    state: str
    folder: Path
    why: str


@dataclass
class Found:
    """All that was found below some folders."""

    runs: list[Run] = field(default_factory=list)
    unfinished: list[Unfinished] = field(default_factory=list)
    teachers: int = 0


def find_runs(folders: list[Path]) -> Found:
    """Read every result below the folders; what cannot be believed is named, not raised.

    Raises:
        UserError: a folder is missing, or nothing in them is a run.
    """
    found = Found()
    for folder in dict.fromkeys(folders):
        _must_exist(folder)
        for place, has_result in _run_folders(folder, found):
            read = _read(place) if has_result else _running(place)
            if isinstance(read, Run):
                found.runs.append(read)
            else:
                found.unfinished.append(read)
    if not found.runs and not found.unfinished:
        listed = ", ".join(map(str, folders))
        raise UserError(f"no run below {listed}: a run is a folder with {RESULT} or .hydra in it")
    found.runs.sort(key=lambda run: (run.written, run.folder))
    return found


def _must_exist(folder: Path) -> None:
    if folder.is_dir():
        return
    above = next(parent for parent in folder.absolute().parents if parent.is_dir())
    there = [path.name for path in above.iterdir() if path.is_dir() and path.name[0] != "."]
    raise UserError(f"there is no folder {folder}; in {above}: {nearest(folder.name, there)}")


def _run_folders(root: Path, found: Found) -> Iterator[tuple[Path, bool]]:
    for place, folders, files in os.walk(root):
        if RESULT in files or RunFolder(Path(place)).config.parent.is_dir():
            yield Path(place), RESULT in files
        if "teachers" in folders:
            found.teachers += len(list(Path(place, "teachers").glob(f"[!.]*/{RESULT}")))
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and f[0] != ".")


def _read(folder: Path) -> Run | Unfinished:
    path = RunFolder(folder).result
    try:
        result = json.loads(path.read_text())
        if problem := _problem(result):
            return Unfinished("broken", folder, problem)
        if result["status"] in _TRIALS:
            return Unfinished("set aside", folder, "a search's trial, without test figures")
        if result["status"] == "failed":
            return Unfinished("failed", folder, str(result.get("error", "no error is recorded")))
        return Run(folder, result, _settings(folder, result), _overrides(folder), _mtime(path))
    except (OSError, ValueError) as error:
        return Unfinished("broken", folder, f"{path.name} cannot be read: {error}")


def _problem(result: Any) -> str | None:
    """Why a result is not believed."""
    if not isinstance(result, dict) or result.get("status") not in _STATES:
        return f"{RESULT} has no status"
    if not is_intact(result):
        return f"{RESULT} was damaged or edited: its checksum differs"
    if result["status"] != "completed":
        return None
    missing = [key for key in (*ROLES, "seed", "test/acc") if result.get(key) is None]
    if missing:
        return f"{RESULT} has no {', '.join(missing)}"
    accuracy, seed = result["test/acc"], result["seed"]
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        return f"test/acc={accuracy!r} is no share in [0, 1]"
    return None if type(seed) is int else f"seed={seed!r} is no whole number"


def _settings(folder: Path, result: dict[str, Any]) -> Settings:
    """The run's settings; its roles alone where it kept no config."""
    roles = {role: str(result[role]) for role in ROLES}
    path = RunFolder(folder).config
    if not path.is_file():
        return roles
    return roles | read_settings(path.read_text(), roles["teacher"] == "none")


def _overrides(folder: Path) -> tuple[str, ...]:
    path = RunFolder(folder).overrides
    try:
        found = yaml.load(path.read_text(), Loader=LOADER) if path.is_file() else []
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is no YAML: {error}") from error
    if not isinstance(found, list):
        raise ValueError(f"{path.name} is no list of overrides")
    return tuple(map(str, found))


def _running(folder: Path) -> Unfinished:
    """A run that is at work, or was killed: how long ago it last wrote tells which."""
    minutes = (time.time() - max(map(_mtime, folder.rglob("*")), default=0)) / 60
    since = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    try:
        told = " ".join(_overrides(folder))
    except (OSError, ValueError) as error:
        told = str(error)
    return Unfinished("running", folder, f"no result yet, last wrote {since} ago; {told}")


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone between listing and looking
        return 0.0
