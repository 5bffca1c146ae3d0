"""Matrices of teachers and students, as papers print them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

from kd.reports.baseline import plain_row
from kd.reports.columns import EMPTY, number, spread
from kd.reports.groups import Group
from kd.reports.labels import labels
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row
from kd.reports.statistics import LEVEL, holm, paired_p
from kd.reports.teachers import teacher_lines

NOTE = (
    "Each cell: test figure of the student, mean ± standard deviation over seeds, in percent; gain "
    "over cross-entropy alone (ce), mean over common seeds, in points; parameters of the teacher "
    "over those of the student; seconds of training. A gain with * is significant: paired t test, "
    f"corrected by Holm's method over the cells of this matrix, at {100 * LEVEL:g} %."
)


class Matrix(NamedTuple):
    """A table of texts.

    Attributes:
        title: method and data.
        headings: of the columns: the teachers, with their test figure.
        rows: each begins with the student's name.
        note: what the cells hold, and which rows are left out.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]
    note: str


@dataclass
class _Cell:
    row: Row
    gains: list[float]
    significant: bool = False


@dataclass
class _Grid:
    """Cells by teacher and group, of one method on one data set."""

    cells: dict[tuple[str, int], _Cell] = field(default_factory=dict)
    left_out: int = 0


def matrices(board: Leaderboard) -> list[Matrix]:
    """Return one matrix for each data set and setting of a method that has a teacher."""
    grids: dict[object, _Grid] = defaultdict(_Grid)
    for place, group in enumerate(board.groups):
        plain = plain_row(group.rows)
        for row in group.rows:
            if row.settings["teacher"] != "none" and row.control is None:
                _add(grids[_key(row)], place, row, plain)
    found = list(grids.values())
    settings = [dict(next(iter(grid.cells.values())).row.settings) for grid in found]
    own = [{k: v for k, v in s.items() if _of_method(k)} | _roles() for s in settings]
    names = labels(own) if own else []
    data = [settings_of["data"] for settings_of in settings]
    return [
        _matrix(board.groups, grid, f"{name} ({where})")
        for grid, name, where in zip(found, names, data, strict=True)
    ]


def _of_method(key: str) -> bool:
    return key == "method" or key.startswith("method.")


def _roles() -> dict[str, str]:
    return dict.fromkeys(("teacher", "student", "mode", "data"), "none")


def _key(row: Row) -> object:
    """What the cells of a matrix have in common: data, mode, method and its settings."""
    same = {k: v for k, v in row.settings.items() if _of_method(k) or k in ("data", "mode")}
    return frozenset(same.items())


def _add(grid: _Grid, place: int, row: Row, plain: Row | None) -> None:
    """Add a row; of several for the same nets, the one with most seeds stays."""
    where = str(row.settings["teacher"]), place
    there = grid.cells.get(where)
    if there is not None:
        grid.left_out += 1
        if len(there.row.runs) >= len(row.runs):
            return
    common = sorted(row.runs.keys() & plain.runs.keys()) if plain else []
    key = row.figure.test
    gains = [row.runs[s].result[key] - plain.runs[s].result[key] for s in common if plain]
    grid.cells[where] = _Cell(row, gains)


def _matrix(groups: Sequence[Group], grid: _Grid, title: str) -> Matrix:
    _mark(list(grid.cells.values()))
    teachers = list(dict.fromkeys(teacher for teacher, _ in grid.cells))
    places = sorted({place for _, place in grid.cells})
    headings = ["student", "ce", *(_heading(groups, name, places) for name in teachers)]
    rows = [
        [_student(groups[place]), _alone(groups[place])]
        + [_text(grid.cells.get((teacher, place))) for teacher in teachers]
        for place in places
    ]
    more = f" Further rows of the same nets that are left out: {grid.left_out}." * bool(
        grid.left_out
    )
    return Matrix(title, headings, rows, NOTE + more)


def _mark(cells: list[_Cell]) -> None:
    """Mark the gains that are significant among all cells of a matrix."""
    tested = [(cell, p) for cell in cells if (p := paired_p(cell.gains)) is not None]
    for (cell, _), p in zip(tested, holm([p for _, p in tested]), strict=True):
        cell.significant = p <= LEVEL


def _heading(groups: Sequence[Group], name: str, places: Sequence[int]) -> str:
    known = [t for place in places for t in teacher_lines(groups[place]) if t.name == name]
    return f"{name}: {known[0].spread}" if known else name


def _student(group: Group) -> str:
    """Title of a group without its data set: the student and what sets it apart from others."""
    return group.title.removeprefix(f"{group.baseline.settings['data']}, ")


def _alone(group: Group) -> str:
    plain = plain_row(group.rows)
    return EMPTY if plain is None else spread(plain, plain.figure.test)


def _text(cell: _Cell | None) -> str:
    if cell is None:
        return EMPTY
    row, compression, seconds = cell.row, "compression", "fit_seconds"
    parts = [spread(row, row.figure.test)]
    if cell.gains:
        parts.append(number(100 * fmean(cell.gains), "+.2f") + "*" * cell.significant)
    if (ratio := row.mean(compression)) is not None:
        parts.append(f"{ratio:.1f}×")
    if (time := row.mean(seconds)) is not None:
        parts.append(f"{time:.0f} s")
    return "; ".join(parts)
