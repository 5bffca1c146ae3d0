"""Heat map of accuracy by temperature and alpha, for sweeps that vary both."""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kd.plots.figure import FigureSpec, file_name
from kd.plots.style import HEAT, Theme, axes
from kd.reports.labels import labels
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

_X, _Y = "method.alpha", "method.temperature"
Cells = dict[tuple[float, float], float]  # (alpha, temperature) → percent


def specs(board: Leaderboard) -> Iterator[FigureSpec]:
    """Yield one map for each group and each combination of all other settings."""
    for group in board.groups:
        grids: dict[object, list[Row]] = defaultdict(list)
        for row in group.rows:
            if all(isinstance(row.settings.get(key), int | float) for key in (_X, _Y)):
                rest = {k: v for k, v in row.settings.items() if k not in (_X, _Y)}
                grids[frozenset(rest.items())].append(row)
        drawn = [rows for rows in grids.values() if _varies_both(rows)]
        rests = [{k: v for k, v in r[0].settings.items() if k not in (_X, _Y)} for r in drawn]
        for rows, label in zip(drawn, labels(rests), strict=True):
            yield _spec(rows, f"{label} ({group.title})")


def _varies_both(rows: list[Row]) -> bool:
    return all(len({row.settings[key] for row in rows}) > 1 for key in (_X, _Y))


def _spec(rows: list[Row], title: str) -> FigureSpec:
    # Settings are chosen on validation; old runs have only test figures.
    figure = rows[0].figure
    key = figure.val if all(row.values(figure.val) for row in rows) else figure.test
    split = {figure.val: "validation", figure.test: "test"}[key]
    counts = sorted({len(row.runs) for row in rows})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    cells = {(row.settings[_X], row.settings[_Y]): 100 * fmean(row.values(key)) for row in rows}
    caption = (
        f"Mean {split} {figure.words} in percent over {seeds} seed{'s' * (seeds != '1')} "
        "per cell. The best cell is framed; an empty cell has no finished run."
    )
    title = f"Temperature and alpha: {title}"
    return FigureSpec(file_name(title), title, caption, partial(_draw, cells))


def _draw(cells: Cells, theme: Theme) -> Figure:
    xs, ys = (sorted({cell[i] for cell in cells}) for i in (0, 1))
    values = np.array([[cells.get((x, y), np.nan) for x in xs] for y in ys])
    figure, ax = axes(theme, 0.8 + 0.42 * len(ys))
    ax.pcolormesh(values, cmap=HEAT, edgecolor=theme.paper, linewidth=1.5)
    low, high = np.nanmin(values), np.nanmax(values)
    for row, column in zip(*np.where(~np.isnan(values)), strict=True):
        value = values[row, column]
        # White text from the middle of the scale on: HEAT has too little contrast with black there.
        dark = value - low > 0.5 * (high - low)
        place = (column + 0.5, row + 0.5)
        colour, weight = ("#ffffff" if dark else "#101820"), "bold" if value == high else "normal"
        ax.annotate(f"{value:.2f}", place, ha="center", va="center", color=colour, weight=weight)
        if value == high:
            # Inset by a few percent, so that the frame does not touch the neighbours'.
            corner = (column + 0.03, row + 0.04)
            frame = Rectangle(corner, 0.94, 0.92, fill=False, edgecolor=theme.ink, linewidth=1.6)
            ax.add_patch(frame)
    ax.set_xticks(np.arange(len(xs)) + 0.5, [f"{x:g}" for x in xs])
    ax.set_yticks(np.arange(len(ys)) + 0.5, [f"{y:g}" for y in ys])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("alpha")
    ax.set_ylabel("temperature")
    return figure
