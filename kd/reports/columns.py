"""Columns of a leaderboard, shared by the page, the Markdown table and the terminal."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

EMPTY = "–"


class Column(NamedTuple):
    """A column of a leaderboard.

    Attributes:
        heading: its title.
        text: formats a row's cell.
        number: the number by which the page sorts; None is last.
        page_only: left out of Markdown and the terminal, which are narrower than the page.
        in_terminal: shown in the terminal, which has room for few columns.
    """

    heading: str
    text: Callable[[Row], str]
    number: Callable[[Row], float | None]
    page_only: bool = False
    in_terminal: bool = True


def verdict(row: Row, group: Group) -> str:
    """Return a row's verdict, or the reason for having none."""
    if row is group.baseline:
        return "baseline"
    if row.comparison is None:
        return "no common seed"
    return row.comparison.verdict or "one seed, no verdict"


def result_columns(board: Leaderboard, group: Group) -> list[Column]:
    """Return the columns of a group between a row's label and its verdict."""
    last = any(row.values(_last(row)) for row in board.rows)
    return [
        Column("seeds", lambda row: str(len(row.runs)), lambda row: len(row.runs)),
        _spread(score_heading(group), lambda row: row.figure.test),
        *([_spread("last epoch", _last)._replace(in_terminal=False)] if last else []),
        Column("difference", _difference, lambda row: row.comparison and row.comparison.mean),
        Column("p (Holm)", _p, lambda row: row.comparison and row.comparison.p_holm),
    ]


def cost_columns(group: Group) -> list[Column]:
    """Return the columns of accuracy and cost of a group, which come last."""
    return [
        Column(
            "95 % interval", _interval, lambda row: (row.interval() or [None])[0], page_only=True
        ),
        _validation(group),
        Column("gap recovered", _gap, lambda row: row.gap),
        _mean("parameters", "student/params"),
        _mean("compression", "compression", decimals=1),
        _mean("images/s", "images_per_second"),
        _mean("training seconds", "fit_seconds", decimals=1),
        _mean("teacher forwards", "teacher_forwards", page_only=True),
    ]


def score_heading(group: Group) -> str:
    """Heading of the column by which a group's table is sorted: that of its task's figure."""
    return f"test {group.figure.words}"


def _last(row: Row) -> str:
    return f"{row.figure.test}_last"


def _spread(heading: str, key: Callable[[Row], str]) -> Column:
    return Column(heading, lambda row: spread(row, key(row)), lambda row: row.mean(key(row)))


def _validation(group: Group) -> Column:
    """Validation figure, with a mark at the group's best row: selection never uses the test."""
    best = max(group.rows, key=lambda row: row.mean(row.figure.val) or 0)

    def text(row: Row) -> str:
        marked = row is best and len(group.rows) > 1
        return spread(row, row.figure.val) + (" (best)" if marked else "")

    return Column(f"validation {group.figure.words}", text, lambda row: row.mean(row.figure.val))


def spread(row: Row, key: str) -> str:
    """Format mean ± standard deviation over seeds, in percent: `97.20 ± 0.31`."""
    mean, deviation = row.mean(key), row.deviation(key)
    if mean is None:
        return EMPTY
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _interval(row: Row) -> str:
    """Format the t interval, which has no bounds, clipped to those of an accuracy."""
    interval = row.interval()
    return between(interval and [min(max(end, 0), 1) for end in interval], ".2f")


def between(interval: Sequence[float] | None, form: str) -> str:
    """Format two fractions in percent.

    Example:
        >>> between((0.972, 0.981), ".2f")
        '97.20 to 98.10'
    """
    return EMPTY if interval is None else " to ".join(number(100 * x, form) for x in interval)


def number(value: float, form: str) -> str:
    """Format a number with a typographic minus, which is as wide as the plus, and without −0.00."""
    text = format(value, form)
    if float(text) == 0:  # after rounding
        text = format(0.0, form)
    return text.replace("-", "−")


def _difference(row: Row) -> str:
    if row.comparison is None:
        return EMPTY
    mean, interval = row.comparison.mean, row.comparison.interval
    text = number(100 * mean, "+.2f")
    return text if interval is None else f"{text} ({between(interval, '+.2f')})"


def _p(row: Row) -> str:
    if row.comparison is None or row.comparison.p_holm is None:
        return EMPTY
    return p_text(row.comparison.p_holm)


def p_text(p: float) -> str:
    """Format a p-value by a journal's convention: three decimals, and a bound below that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _gap(row: Row) -> str:
    if row.gap is None:
        return EMPTY
    # A student below `ce` has recovered nothing; a percentage would suggest a scale.
    return "below ce" if row.gap < 0 else number(100 * row.gap, ".0f") + " %"


def _mean(heading: str, key: str, decimals: int = 0, page_only: bool = False) -> Column:
    def mean(row: Row) -> float | None:
        values = row.values(key)
        return fmean(values) if values else None

    def text(row: Row) -> str:
        value = mean(row)
        # Thousands are separated by a thin space, as SI has it.
        return EMPTY if value is None else f"{value:,.{decimals}f}".replace(",", "\u2009")

    return Column(heading, text, mean, page_only)
