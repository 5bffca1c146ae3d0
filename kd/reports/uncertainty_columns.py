"""Columns of power, P(A > B), McNemar's test, agreement and the test set's own error."""

from collections.abc import Callable

from kd.reports.columns import EMPTY, Column, cost_columns, number, p_text
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.power import MAX_SEEDS
from kd.reports.rows import Row


def further_columns(board: Leaderboard, group: Group) -> list[Column]:
    """Return the columns of a group after the verdict."""
    return [*uncertainty_columns(board), *cost_columns(group)]


def uncertainty_columns(board: Leaderboard) -> list[Column]:
    """Return the columns of which at least one row has a value."""
    columns = [
        _column("test set error", lambda row: row.uncertainty.test_error, _error),
        _column("P(better)", _probability, _superiority),
        _column("McNemar p", lambda row: row.uncertainty.images and row.uncertainty.images.p, _p),
        _column("agreement if teacher right / wrong", _agreement, _agreements),
    ]
    columns.insert(0, Column("against controls", _against_controls, _no_number))
    if board.detect is not None:
        heading = f"seeds to tell {100 * board.detect:g}"
        columns = [Column(heading, _seeds, _needed), *columns]
    return [c for c in columns if any(c.text(row) != EMPTY for row in board.rows)]


def _against_controls(row: Row) -> str:
    return row.against_controls or EMPTY


def _no_number(row: Row) -> None:
    """Words are not sorted."""


def _column(
    heading: str, value: Callable[[Row], float | None], text: Callable[[Row], str]
) -> Column:
    return Column(heading, text, value, in_terminal=False)


def _needed(row: Row) -> float | None:
    return row.uncertainty.needed and row.uncertainty.needed.estimate


def _seeds(row: Row) -> str:
    needed = row.uncertainty.needed
    if needed is None:
        return EMPTY
    low, high = (f"> {MAX_SEEDS}" if n is None else str(n) for n in needed)
    return low if low == high else f"{low} to {high}"


def _error(row: Row) -> str:
    error = row.uncertainty.test_error
    return EMPTY if error is None else f"± {100 * error:.2f}"


def _probability(row: Row) -> float | None:
    return row.uncertainty.superiority and row.uncertainty.superiority.probability


def _superiority(row: Row) -> str:
    found = row.uncertainty.superiority
    if found is None:
        return EMPTY
    text = f"{found.probability:.2f}"
    if found.interval is None:
        return text
    low, high = found.interval
    return f"{text} ({low:.2f} to {high:.2f})"


def _p(row: Row) -> str:
    found = row.uncertainty.images
    if found is None:
        return EMPTY
    return f"{p_text(found.p)} ({found.wins:.4g} : {found.losses:.4g})"


def _agreement(row: Row) -> float | None:
    return row.uncertainty.agreement and row.uncertainty.agreement[0]


def _agreements(row: Row) -> str:
    found = row.uncertainty.agreement
    if found is None:
        return EMPTY
    return " / ".join(EMPTY if part is None else number(100 * part, ".1f") for part in found)
