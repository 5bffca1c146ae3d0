"""Accuracy against temperature, for rows that differ in nothing else."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from matplotlib.figure import Figure

from kd.plots.figure import FigureSpec, file_name
from kd.plots.style import BLUE, RED, Theme, axes, legend_below
from kd.reports.groups import Group
from kd.reports.labels import labels
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row
from kd.reports.settings import Settings

_T, _ALPHA = "method.temperature", "method.alpha"


class Curve(NamedTuple):
    """Means and standard deviations by temperature, in percent; 0 for a single seed."""

    name: str
    temperatures: list[float]
    means: list[float]
    deviations: list[float]


def specs(board: Leaderboard) -> Iterator[FigureSpec]:
    """Yield one figure for each group and each combination of all other settings."""
    for group in board.groups:
        drawn = _series(group)
        for rows, label in zip(drawn, labels([_rest(r[0]) for r in drawn]), strict=True):
            title = f"Temperature: {label} ({group.title})"
            yield FigureSpec(
                file_name(title),
                title,
                f"Mean {group.figure.words} over seeds; bars are ± one standard deviation. Choose "
                "the temperature by the validation curve.",
                partial(_draw, curves(rows), group.figure.words),
            )


def _series(group: Group) -> list[list[Row]]:
    """Rows that differ in temperature alone; with several alphas there is a heat map instead."""
    series: dict[object, list[Row]] = defaultdict(list)
    for row in group.rows:
        if isinstance(row.settings.get(_T), int | float):
            series[frozenset(_rest(row).items())].append(row)
    several = [rows for rows in series.values() if len(rows) > 1]
    without_alpha = [
        frozenset((k, v) for k, v in _rest(rows[0]).items() if k != _ALPHA) for rows in several
    ]
    return [
        r for r, key in zip(several, without_alpha, strict=True) if without_alpha.count(key) == 1
    ]


def _rest(row: Row) -> Settings:
    return {key: value for key, value in row.settings.items() if key != _T}


def curves(rows: list[Row]) -> list[Curve]:
    """Return the validation curve, if all rows have it, and the test curve."""
    rows = sorted(rows, key=lambda row: row.settings[_T])
    figure, found = rows[0].figure, []
    for name, key in (("validation", figure.val), ("test", figure.test)):
        means = [row.mean(key) for row in rows]
        known = [100 * mean for mean in means if mean is not None]
        if len(known) == len(rows):
            deviations = [100 * (row.deviation(key) or 0.0) for row in rows]
            found.append(Curve(name, [row.settings[_T] for row in rows], known, deviations))
    return found


def _draw(found: list[Curve], words: str, theme: Theme) -> Figure:
    figure, ax = axes(theme, 3.0)
    handles = [
        ax.errorbar(c.temperatures, c.means, c.deviations, marker=marker, color=colour, capsize=2)
        for c, marker, colour in zip(found, ("o", "s"), (BLUE, RED), strict=False)
    ]
    legend_below(figure, handles, [curve.name for curve in found])
    ax.set_xticks(found[0].temperatures, [f"{t:g}" for t in found[0].temperatures])
    ax.grid()
    ax.set_xlabel("temperature")
    ax.set_ylabel(f"{words}, percent")
    return figure
