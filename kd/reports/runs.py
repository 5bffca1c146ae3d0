"""Reading and checking of a single run folder."""

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kd.errors import UserError
from kd.io.checksums import is_intact
from kd.io.documents import MAX_YAML, read_json, read_yaml
from kd.io.printable import printable
from kd.io.regular_files import read_text
from kd.io.result_file import declaration, mistyped, upgraded
from kd.io.run_folder import RunFolder
from kd.io.task_figures import task_figure
from kd.reports.settings import ROLES, Settings, read_settings

RESULT = RunFolder(Path()).result.name
_TRIALS = ("untested", "pruned")  # statuses of a search's trials
_STATUSES = ("completed", "failed", *_TRIALS)
_FRACTIONS = ("/acc", "/acc_last", "/acc_per_class", "/agreement", "/ece", "/map", "/map50")
_MAX_NUMBER = 1e15  # of images, seconds or parameters; a table cannot show 1e308


@dataclass(frozen=True)
class Run:
    """A completed run.

    Attributes:
        folder: the run folder.
        result: content of its result.json, see `kd.io.result_file.Result`.
        settings: flat settings with the names of its roles, without the seed.
        overrides: its command line; empty if not recorded.
        written: time at which the result was written, in seconds since 1970.
    """

    folder: Path
    result: dict[str, Any]
    settings: Settings
    overrides: tuple[str, ...]
    written: float

    @property
    def seed(self) -> int:
        """The seed, by which runs of a row are paired."""
        return int(self.result["seed"])


class Excluded(NamedTuple):
    """A folder that contributes no numbers.

    Attributes:
        state: `failed`, `unfinished`, `broken` or `left out`.
        folder: the run folder.
        why: the reason, in one line.
    """

    state: str
    folder: Path
    why: str


def read_run(folder: Path) -> Run | Excluded:
    """Read a run with a result.json; a problem with it is returned, not raised."""
    path = RunFolder(folder).result
    try:
        content = read_json(path)
        if problem := _problem(content):
            return Excluded("broken", folder, printable(problem))
        result = dict(upgraded(content))
        if result["status"] in _TRIALS:
            return Excluded("left out", folder, "trial of a search, without test figures")
        if result["status"] == "failed":
            return Excluded("failed", folder, printable(result.get("error", "no error recorded")))
        return Run(folder, result, _settings(folder, result), _overrides(folder), _mtime(path))
    except (OSError, ValueError) as error:
        return Excluded("broken", folder, printable(error))


def _problem(result: Any) -> str | None:
    """Describe why a result is not usable; None if it is.

    Old and edited files are read as well, so nothing about their content is assumed.
    """
    if not isinstance(result, dict) or result.get("status") not in _STATUSES:
        return f"{RESULT} has no status"
    if not is_intact(result):
        return f"{RESULT} was damaged or edited: its checksum differs"
    if result["status"] != "completed":
        return None
    score = task_figure(result).test
    missing = [key for key in (*ROLES, "seed", score) if result.get(key) is None]
    if missing:
        return f"{RESULT} has no {', '.join(missing)}"
    value, seed = result[score], result["seed"]
    if key := next((key for key in ROLES if not isinstance(result[key], str)), None):
        return f"{key}={result[key]!r:.60} is not a name"
    # Also false for NaN. Percentages from other tools would otherwise win every comparison.
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        return f"{score}={value!r:.60} is not a fraction in [0, 1]"
    if type(seed) is not int:  # True is an int
        return f"seed={seed!r:.60} is not a whole number"
    known = upgraded(result)
    return mistyped(known) or _out_of_range(known)


def _out_of_range(result: Mapping[str, Any]) -> str | None:
    """Describe the first number, of the right type, that no run can have; None if all are fine."""
    for key, value in result.items():
        if key == "seed" or declaration(key) is None:
            continue
        fraction = key.endswith(_FRACTIONS)
        most = 1 if fraction else math.inf if key.endswith("/nll") else _MAX_NUMBER
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and (number < 0 or number > most):
                wanted = "a fraction in [0, 1]" if fraction else f"in [0, {most:g}]"
                return f"{key}={number!r:.60} is not {wanted}"
    return None


def _settings(folder: Path, result: dict[str, Any]) -> Settings:
    """The run's settings; only the names of its roles if it has no recorded config."""
    roles = {role: str(result[role]) for role in ROLES} | _limits(result)
    path = RunFolder(folder).config
    if not os.path.lexists(path):
        return roles
    text, recognised = read_text(path, MAX_YAML), result.get("data/fingerprint") is not None
    return roles | read_settings(text, roles["teacher"] == "none", recognised)


def _limits(result: dict[str, Any]) -> Settings:
    """Marks of a limited evaluation, which make its rows others than those of a full one."""
    limited = result.get("limited")
    if not isinstance(limited, list):
        return {}
    marks = {"limited": "val"} if "val" in limited else {}
    if "test" in limited:  # another test set in effect: in a group of its own
        images = result.get("test/images")
        number = images if isinstance(images, int) else "some"
        marks["data"] = f"{result['data']} (only {number} test images)"
    return marks


def _overrides(folder: Path) -> tuple[str, ...]:
    path = RunFolder(folder).overrides
    found = read_yaml(path) if os.path.lexists(path) else []
    if not isinstance(found, list):
        raise UserError(f"{path} is not a list of overrides")
    return tuple(map(printable, found))


def unfinished_run(folder: Path) -> Excluded:
    """Describe a run without a result.

    It is still running or was killed: the time since it last wrote a file indicates which.
    """
    run = RunFolder(folder)
    # Known files only: the folder may hold anything, and any number of it.
    files = run.last, run.best, run.metrics, run.config, run.overrides, run.lock, run.root
    minutes = (time.time() - max(map(_mtime, files))) / 60
    age = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    try:
        overrides = " ".join(_overrides(folder))
    except (OSError, ValueError) as error:
        overrides = str(error)
    return Excluded(
        "unfinished", folder, f"no result yet, last file written {age} ago; {overrides}"
    )


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted since it was listed
        return 0.0
