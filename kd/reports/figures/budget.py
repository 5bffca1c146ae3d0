"""Best on validation after n trials of a search, for each method."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kd.io.printable import printable
from kd.plots.figure import FigureSpec, file_name
from kd.plots.style import DASHES, SERIES, Theme, axes, legend_below
from kd.reports.leaderboard import Leaderboard
from kd.reports.trials import best_after, searches

Curves = dict[str, list[float]]  # percent, by name of the search


def specs(board: Leaderboard) -> Iterator[FigureSpec]:
    """Yield one figure for each data set and student with a search of two trials or more."""
    figures: dict[tuple[str, str, str], Curves] = defaultdict(dict)
    for folder, trials in searches(board.trials).items():
        first = trials[0]
        if len(trials) > 1:
            curves = figures[first.data, first.student, first.figure]
            name = printable(first.method)
            name = name if name not in curves else f"{name} ({printable(folder.name)})"
            curves[name] = [100 * value for value in best_after(trials)]
    for (data, student, words), curves in figures.items():
        title = printable(f"Tuning budget ({data}, {student})")
        left_out = len(curves) - len(SERIES)
        caption = (
            f"Best validation {words} after n trials of a search; compare methods at equal n. It "
            "is an optimistic estimate: the settings were chosen by it."
            + (f" {left_out} further searches are left out." if left_out > 0 else "")
        )
        yield FigureSpec(file_name(title), title, caption, partial(_draw, curves, words))


def _draw(curves: Curves, words: str, theme: Theme) -> Figure:
    figure, ax = axes(theme, 3.0)
    handles, names = [], []
    for (name, values), colour, dashes in zip(curves.items(), SERIES, DASHES, strict=False):
        numbers = range(1, len(values) + 1)
        handles += ax.step(numbers, values, where="post", marker=".", color=colour, ls=dashes)
        names.append(name)
    legend_below(figure, handles, names)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid()
    ax.set_xlabel("trials")
    ax.set_ylabel(f"best validation {words}, percent")
    return figure
