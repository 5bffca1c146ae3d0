"""Lines of a group's table, rows and teachers, best first: the same in every form of a report."""

from collections.abc import Sequence
from typing import NamedTuple

from kd.reports.columns import EMPTY, Column, score_heading, verdict
from kd.reports.groups import Group
from kd.reports.rows import Row
from kd.reports.teachers import TeacherLine, teacher_cells, teacher_lines

Cell = tuple[str, float | None]  # text, and the number by which a page sorts


class Line(NamedTuple):
    """A line of a table.

    Attributes:
        label: of the row or the teacher.
        verdict: as `kd.reports.columns.verdict`, or `teacher`.
        results: cells before the verdict.
        further: cells after it.
    """

    label: str
    verdict: str
    results: list[Cell]
    further: list[Cell]


def lines(group: Group, results: Sequence[Column], further: Sequence[Column]) -> list[Line]:
    """Return the lines of a group's table.

    Args:
        group: of a leaderboard.
        results: columns before the verdict.
        further: columns after it.
    """
    found = [
        (
            row.score,
            Line(row.label, verdict(row, group), *(_of_row(row, c) for c in (results, further))),
        )
        for row in group.rows
    ]
    for teacher in teacher_lines(group):
        cells = (_of_teacher(teacher, c, score_heading(group)) for c in (results, further))
        found.append((teacher.score, Line(teacher.label, "teacher", *cells)))
    return [line for _, line in sorted(found, key=lambda pair: -pair[0])]


def _of_row(row: Row, columns: Sequence[Column]) -> list[Cell]:
    return [(column.text(row), column.number(row)) for column in columns]


def _of_teacher(teacher: TeacherLine, columns: Sequence[Column], score: str) -> list[Cell]:
    known = teacher_cells(teacher, score)
    return [known.get(column.heading, (EMPTY, None)) for column in columns]
