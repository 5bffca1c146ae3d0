"""Teachers of a group of rows, as lines of its table."""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any, NamedTuple

from kd.reports.columns import EMPTY, number
from kd.reports.groups import Group
from kd.reports.rows import Row


class TeacherLine(NamedTuple):
    """A teacher of a group's runs.

    Attributes:
        name: of its net.
        scores: test figure of each of its trainings, fractions.
        parameters: of the net; None: not recorded.
        seconds: of its training, the mean of those that were trained within a run; None: none was.
    """

    name: str
    scores: tuple[float, ...]
    parameters: float | None
    seconds: float | None

    @property
    def score(self) -> float:
        """Mean test figure over its trainings."""
        return fmean(self.scores)

    @property
    def label(self) -> str:
        """Such as `teacher resnet20`."""
        return f"teacher {self.name}"

    @property
    def spread(self) -> str:
        """Mean ± standard deviation over its trainings, in percent."""
        text = f"{100 * self.score:.2f}"
        return text if len(self.scores) < 2 else f"{text} ± {100 * stdev(self.scores):.2f}"


def teacher_lines(group: Group) -> list[TeacherLine]:
    """Return the teachers of a group's rows, without those that controls leave untrained."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in group.rows:
        if row.control != "untrained":
            found.setdefault(str(row.settings["teacher"]), []).extend(_results(row))
    lines = [_line(name, results, group.figure.test) for name, results in found.items()]
    return [line for line in lines if line is not None]


def _results(row: Row) -> list[Mapping[str, Any]]:
    return [run.result for run in row.runs.values()]


def _line(name: str, results: list[Mapping[str, Any]], key: str) -> TeacherLine | None:
    # One for each training; a teacher of an earlier version has no hash, and its figure tells.
    trained = {
        str(each.get("teacher/weights_hash") or each[f"teacher/{key}"]): each
        for each in results
        if isinstance(each.get(f"teacher/{key}"), int | float)
    }
    if not trained:
        return None
    seconds = [s for each in results if (s := each.get("teacher/seconds"))]
    sizes = [each.get("teacher/params") for each in trained.values()]
    scores = tuple(float(each[f"teacher/{key}"]) for each in trained.values())
    return TeacherLine(name, scores, sizes[0], fmean(seconds) if seconds else None)


def teacher_cells(teacher: TeacherLine, score: str) -> dict[str, tuple[str, float | None]]:
    """Return text and number of a teacher's cells, by the heading of their column.

    Args:
        teacher: the teacher.
        score: heading of the column of test figures.
    """
    seconds = EMPTY if teacher.seconds is None else number(teacher.seconds, ".1f")
    size = EMPTY if teacher.parameters is None else f"{teacher.parameters:,.0f}"
    return {
        "seeds": (str(len(teacher.scores)), len(teacher.scores)),
        score: (teacher.spread, teacher.score),
        "parameters": (size.replace(",", "\u2009"), teacher.parameters),
        "training seconds": (seconds, teacher.seconds),
    }
