"""Shared look of all figures: size, colours for light and dark backgrounds, axes and legends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

WIDTH = 5.4  # inches; text stays legible when a phone scales the figure to its screen
_MAX_LABEL = 46  # characters of a label beside or below the axes
_MAX_LEGEND_LINE = 66  # characters that fit into WIDTH at the legend's font size


@dataclass(frozen=True)
class Theme:
    """The colours that depend on the background."""

    ink: str
    muted: str
    rule: str
    paper: str


# `kd.plots.figure.save` finds these colours in an SVG by their value and turns them into CSS
# variables. So the four differ, and no other colour in this module equals one of them.
LIGHT = Theme(ink="#1d2126", muted="#626a73", rule="#d9dde1", paper="#fefefe")
DARK = Theme(ink="#e4e7ea", muted="#9aa3ac", rule="#353b42", paper="#14171a")

# Okabe & Ito's palette for all types of colour vision (https://jfly.uni-koeln.de/color/), darkened
# to a contrast of at least 3:1 on white and on DARK.paper, as WCAG 2.1 requires of graphics.
BLUE, RED, GREEN, PURPLE, OCHRE = "#1b7abf", "#cf5a00", "#00906a", "#b8578f", "#a07a00"
SERIES = (BLUE, RED, GREEN, PURPLE, OCHRE)
# One dash pattern a series: lines stay distinct in greyscale print.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (3, 3)),
)
HEAT = LinearSegmentedColormap.from_list("heat", ["#eaf1f7", "#9cc3e0", "#3d87bd", "#0b3c66"])


def truncated(label: str, most: int = _MAX_LABEL) -> str:
    """Cut a label to `most` characters; the default leaves room for the axes beside it."""
    return label if len(label) <= most else f"{label[: most - 1]}…"


def legend_below(figure: Figure, handles: Sequence[Any], names: Sequence[str], **how: Any) -> None:
    """Add a legend below the axes, in as many columns as its longest name allows."""
    columns = next((n for n in (3, 2) if max(map(len, names)) * n <= _MAX_LEGEND_LINE), 1)
    names = [truncated(name, _MAX_LEGEND_LINE if columns == 1 else _MAX_LABEL) for name in names]
    figure.legend(handles, names, loc="outside lower left", ncols=columns, **how)


def axes(theme: Theme, height: float) -> tuple[Figure, Axes]:
    """Create a figure of WIDTH by `height` inches with one axes, framed at the left and below."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=theme.paper)
    found = figure.add_subplot(facecolor="none")
    found.spines[["top", "right"]].set_visible(False)
    return figure, found


def rc_params(theme: Theme) -> Any:
    """Return the Matplotlib parameters of a theme.

    They must be active while the figure is saved, not only while it is drawn: Matplotlib creates
    ticks and legends as late as that.
    """
    return {
        "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
        "svg.hashsalt": "kd",  # fixed element ids, so that equal figures are equal files
        "font.family": "sans-serif",
        "text.parse_math": False,  # a class may be named "$"
        "font.size": 9,
        "text.color": theme.ink,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.rule,
        "axes.linewidth": 0.8,
        "axes.labelsize": 9,
        "axes.axisbelow": True,
        "xtick.color": theme.rule,
        "ytick.color": theme.rule,
        "xtick.labelcolor": theme.muted,
        "ytick.labelcolor": theme.muted,
        "grid.color": theme.rule,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.labelcolor": theme.ink,
        "legend.fontsize": 8.5,
    }
