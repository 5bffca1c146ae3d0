"""Figures of the pages: points with their spread over a scale, and gains beside published ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from kd.plots.figure import Draw
from kd.plots.style import BLUE, LIGHT, RED, Theme, axes, rc_params
from kd.reports.statistics import t_interval

Curve = Mapping[str, Sequence[float]]  # position on the scale -> values of the seeds


class Gain(NamedTuple):
    """Differences of a row in points, by seed, and those that a document states for it."""

    label: str
    seeds: Sequence[float]
    published: Sequence[float]


def write_png(draw: Draw, path: Path) -> None:
    """Draw a figure for a light background into a PNG file."""
    with mpl.rc_context(rc_params(LIGHT)):
        draw(LIGHT).savefig(path, dpi=160)


def curves(found: Mapping[str, Curve], x: str, y: str, theme: Theme) -> Figure:
    """Draw the mean of each position of each curve, with bars of one standard deviation."""
    figure, ax = axes(theme, 2.7)
    for (name, curve), colour in zip(found.items(), (BLUE, RED), strict=False):
        means = [fmean(values) for values in curve.values()]
        bars = [stdev(values) if len(values) > 1 else 0.0 for values in curve.values()]
        places = [[*_places(found)].index(place) for place in curve]
        ax.errorbar(
            places, means, bars, color=colour, fmt="o-", ms=4, lw=1.2, capsize=2, label=name
        )
    ax.set_xticks(range(len(_places(found))), [*_places(found)])
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(axis="y")
    if len(found) > 1:
        ax.legend()
    return figure


def gains(found: Sequence[Gain], x: str, theme: Theme) -> Figure:
    """Draw each row's mean gain with its 95 % t interval and seeds; crosses are published."""
    figure, ax = axes(theme, 0.9 + 0.26 * len(found))
    ax.axvline(0, color=theme.muted, linewidth=0.9)
    for y, gain in enumerate(found):
        ends = t_interval(gain.seeds)
        if ends is not None:
            ax.plot(ends, [y, y], color=BLUE, linewidth=1.6)
        ax.plot(gain.seeds, [y] * len(gain.seeds), "o", color=BLUE, alpha=0.45, ms=2.6, mew=0)
        ax.plot(fmean(gain.seeds), y, "o", color=BLUE, ms=5.5)
        ax.plot(gain.published, [y] * len(gain.published), "x", color=RED, ms=5)
    ax.set_yticks(range(len(found)), [gain.label for gain in found], color=theme.ink)
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.grid(axis="x")
    ax.set_xlabel(x)
    return figure


def _places(found: Mapping[str, Curve]) -> dict[str, None]:
    return {place: None for curve in found.values() for place in curve}
