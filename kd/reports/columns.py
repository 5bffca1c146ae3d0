"""The columns of a leaderboard, once, for all forms it is written in."""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from kd.reports.leaderboard import Group, Leaderboard
from kd.reports.rows import Row

NOTHING = "–"


class Column(NamedTuple):
    """A column: its heading, what a cell says, and the number by which it sorts."""

    heading: str
    text: Callable[[Row], str]
    number: Callable[[Row], float | None]
    # Left to the page and the CSV file, where there is room.
    extra: bool = False


def verdict(row: Row, group: Group) -> str:
    """What is concluded about a row; why, where nothing is."""
    if row is group.baseline:
        return "baseline"
    if row.against is None:
        return "no common seed"
    return row.against.verdict or "one seed, no verdict"


def columns(board: Leaderboard) -> list[Column]:
    """The columns between a row's name and its verdict, and those behind."""
    last = any(row.values("test/acc_last") for row in board.rows)
    found = [
        Column("seeds", lambda row: str(len(row.runs)), lambda row: len(row.runs)),
        _spread("test accuracy", "test/acc"),
    ]
    found += [_spread("at the last epoch", "test/acc_last")] if last else []
    return [
        *found,
        Column("difference", _difference, lambda row: row.against and row.against.mean),
        Column("p, Holm", _p, lambda row: row.against and row.against.p_holm),
    ]


def costs() -> list[Column]:
    """The columns behind the verdict."""
    return [
        Column("95 % interval", _interval, lambda row: (row.interval() or [None])[0], extra=True),
        _spread("validation", "val/acc", extra=True),
        Column("gap recovered", _gap, lambda row: row.gap),
        _whole("parameters", "student/params"),
        _whole("images/s", "images_per_second"),
        _whole("fit seconds", "fit_seconds", places=1),
        _whole("teacher forwards", "teacher_forwards", extra=True),
    ]


def _spread(heading: str, key: str, extra: bool = False) -> Column:
    return Column(heading, lambda row: spread(row, key), lambda row: row.mean(key), extra)


def spread(row: Row, key: str) -> str:
    """Mean ± standard deviation over seeds, in percent."""
    mean, deviation = row.mean(key), row.deviation(key)
    if mean is None:
        return NOTHING
    return f"{100 * mean:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


def _interval(row: Row) -> str:
    """The t distribution knows no ends; accuracies do."""
    interval = row.interval()
    return between(interval and [min(max(end, 0), 1) for end in interval], ".2f")


def between(interval: Sequence[float] | None, form: str) -> str:
    """Two shares in percent: `97.20 to 98.10`."""
    return NOTHING if interval is None else " to ".join(number(100 * x, form) for x in interval)


def number(value: float, form: str) -> str:
    """A number with a minus as long as the plus."""
    text = format(value, form)
    if float(text) == 0:
        text = format(0.0, form)  # not −0.00
    return text.replace("-", "−")


def _difference(row: Row) -> str:
    if row.against is None:
        return NOTHING
    mean, interval = row.against.mean, row.against.interval
    found = number(100 * mean, "+.2f")
    return found if interval is None else f"{found} ({between(interval, '+.2f')})"


def _p(row: Row) -> str:
    if row.against is None or row.against.p_holm is None:
        return NOTHING
    return "< 0.001" if row.against.p_holm < 0.001 else f"{row.against.p_holm:.3f}"


def _gap(row: Row) -> str:
    return NOTHING if row.gap is None else number(100 * row.gap, ".0f") + " %"


def _whole(heading: str, key: str, places: int = 0, extra: bool = False) -> Column:
    def mean(row: Row) -> float | None:
        values = row.values(key)
        return fmean(values) if values else None

    def text(row: Row) -> str:
        value = mean(row)
        return NOTHING if value is None else f"{value:,.{places}f}".replace(",", "\u2009")

    return Column(heading, text, mean, extra)
