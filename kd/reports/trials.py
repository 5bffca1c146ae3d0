"""Trials of `kd.search`: the best on validation after n of them."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from kd.io.checksums import read_intact
from kd.io.run_folder import RunFolder
from kd.io.task_figures import task_figure


class Trial(NamedTuple):
    """A trial, which has validation figures only.

    Attributes:
        folder: of the trial; it lies in that of its search.
        method, data, student: names.
        figure: what the value is, in words: `accuracy`.
        value: validation figure, a fraction; None: the trial ended before it had one.
        seconds: of training, with that of a teacher within the trial; None: not recorded.
    """

    folder: Path
    method: str
    data: str
    student: str
    figure: str
    value: float | None
    seconds: float | None = None


def trial_of(folder: Path) -> Trial | None:
    """Read a trial; None if the folder holds no result of one."""
    result = read_intact(RunFolder(folder).result)
    if result is None or result.get("status") not in ("untested", "pruned"):
        return None
    figure = task_figure(result)
    found = result.get(figure.val)
    value = float(found) if isinstance(found, int | float) and 0 <= found <= 1 else None
    method, data, student = (str(result.get(role)) for role in ("method", "data", "student"))
    return Trial(folder, method, data, student, figure.words, value, _seconds(result))


def _seconds(result: Mapping[str, Any]) -> float | None:
    own, teacher = (_duration(result.get(key)) for key in ("fit_seconds", "teacher/seconds"))
    return None if own is None else own + (teacher or 0.0)


def _duration(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 <= value < math.inf else None


def searches(trials: Sequence[Trial]) -> dict[Path, list[Trial]]:
    """Return the trials of each search, in their order."""
    found: dict[Path, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.folder):
        found.setdefault(trial.folder.parent, []).append(trial)
    return found


def best_after(trials: Sequence[Trial]) -> list[float]:
    """Return the best value after 1, 2, … trials; NaN as long as none has one.

    Example:
        >>> make = lambda v: Trial(Path("a"), "kd", "digits", "resnet8", "accuracy", v)
        >>> best_after([make(0.5), make(None), make(0.7), make(0.6)])
        [0.5, 0.5, 0.7, 0.7]
    """
    values = (math.nan if trial.value is None else trial.value for trial in trials)
    return list(accumulate(values, _better))


def _better(best: float, new: float) -> float:
    """The larger of two numbers; a NaN is less than any."""
    return new if math.isnan(best) or new > best else best
