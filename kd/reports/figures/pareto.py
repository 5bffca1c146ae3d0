"""Figure of accuracy against cost, with the Pareto front."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

from kd.plots.figure import FigureSpec, file_name
from kd.plots.style import BLUE, Theme, axes, legend_below
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

_MAX_NAMES = 8  # rows named in the legend


class Cost(NamedTuple):
    """A cost axis.

    Attributes:
        key: in result.json.
        axis: label of the axis.
        more_is_better: False for sizes, True for speeds.
        note: appended to the caption.
    """

    key: str
    axis: str
    more_is_better: bool
    note: str


_COSTS = (
    Cost("student/params", "parameters of the student", False, ""),
    Cost(
        "images_per_second",
        "training images per second",
        True,
        " Speed depends on the machine and on the jobs that ran at the same time.",
    ),
)


class Point(NamedTuple):
    """A row in the figure: its cost, its accuracy in percent, its name."""

    cost: float
    accuracy: float
    label: str


def specs(board: Leaderboard) -> Iterator[FigureSpec]:
    """Yield one figure for each data set and cost, if the rows differ in that cost."""
    for data in dict.fromkeys(str(row.settings["data"]) for row in board.rows):
        rows = [row for row in board.rows if row.settings["data"] == data]
        for cost in _COSTS:
            points = [point for row in rows if (point := _point(row, cost.key))]
            if len({point.cost for point in points}) > 1:
                words = rows[0].figure.words
                title = f"{words[0].upper()}{words[1:]} against {cost.axis} ({data})"
                caption = (
                    f"Mean test {words} over seeds. The line is the Pareto front: the rows that no "
                    "other row beats in both respects. Its most accurate rows are numbered; all "
                    f"other rows are grey.{cost.note}"
                )
                draw = partial(_draw, points, cost, words)
                yield FigureSpec(file_name("accuracy", cost.key, data), title, caption, draw)


def _point(row: Row, key: str) -> Point | None:
    cost = row.mean(key)
    return None if not cost else Point(cost, 100 * row.score, row.title)


def front(points: Sequence[Point], more_is_better: bool) -> list[Point]:
    """Return the points that no other point equals or beats in both cost and accuracy.

    Returns:
        The Pareto front, cheapest first.

    Example:
        >>> a, b, c = Point(1, 50, "a"), Point(2, 70, "b"), Point(3, 60, "c")
        >>> [point.label for point in front([a, b, c], more_is_better=False)]
        ['a', 'b']
    """
    sign = -1 if more_is_better else 1
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (sign * p.cost, -p.accuracy)):
        # From cheap to expensive, a point must beat all cheaper ones.
        if not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


def _draw(points: list[Point], cost: Cost, words: str, theme: Theme) -> Figure:
    best = front(points, cost.more_is_better)
    named = sorted(best, key=lambda point: -point.accuracy)[:_MAX_NAMES]
    figure, ax = axes(theme, 2.9 + 0.19 * len(named))
    others = [point for point in points if point not in best]
    ax.plot(*_xy(others), "o", color=theme.muted, alpha=0.55, markersize=4, mew=0)
    ax.plot(*_xy(best), "o-", color=BLUE, markersize=5.5, linewidth=1.2)
    for n, point in enumerate(named, 1):
        _number(ax, n, point, cost)
    # Numbers as text: a marker "$1$" would need mathtext, which the style switches off.
    keys = [Line2D([], [], linestyle="") for _ in named]
    names = [f"{n}: {point.label}" for n, point in enumerate(named, 1)]
    legend_below(figure, keys, names, handlelength=0, handletextpad=0)
    _scale(ax, points)
    ax.margins(y=0.12)
    ax.grid()
    ax.set_xlabel(cost.axis)
    ax.set_ylabel(f"test {words}, percent")
    return figure


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.cost for point in points], [point.accuracy for point in points]


def _number(ax: Axes, number: int, point: Point, cost: Cost) -> None:
    """Write a number beside a point, on the side away from the line."""
    place, side = (point.cost, point.accuracy), 7 if cost.more_is_better else -7
    ax.annotate(str(number), place, (side, 4), textcoords="offset points", ha="center", fontsize=8)


def _scale(ax: Axes, points: Sequence[Point]) -> None:
    """Make the cost axis logarithmic, labelled at 1, 2 and 5, if costs span more than 3×."""
    low, high = min(p.cost for p in points), max(p.cost for p in points)
    if high > 3 * low:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlim(low / 1.4, high * 1.4)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
