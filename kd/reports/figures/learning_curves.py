"""Figure of the selecting validation figure by epoch, with the spread over seeds."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kd.io.regular_files import read_text
from kd.io.run_folder import RunFolder
from kd.plots.figure import FigureSpec, file_name
from kd.plots.style import DASHES, SERIES, Theme, axes, legend_below
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

_MAX_CSV = 200_000_000  # bytes: a million rows of ten columns
_MAX_EPOCH = 10**6
Curve = dict[int, list[float]]  # epoch → one figure a seed


def specs(board: Leaderboard) -> Iterator[FigureSpec]:
    """Yield one figure for each group whose runs have a metrics.csv of two or more epochs."""
    for group in board.groups:
        curves = {row.label: curve for row in _chosen(group) if len(curve := curve_of(row)) > 1}
        words = group.figure.words
        if curves:
            caption = (
                f"Validation {words} after each epoch: mean over seeds, with a band of one "
                "standard deviation. Shown are the baseline and the rows with the best validation "
                f"{words}."
            )
            title = f"Learning curves ({group.title})"
            draw = partial(_draw, curves, words)
            yield FigureSpec(file_name("curves", group.title), title, caption, draw)


def _chosen(group: Group) -> list[Row]:
    others = [row for row in group.rows if row is not group.baseline]
    others.sort(key=lambda row: -(row.mean(row.figure.val) or 0))
    return [group.baseline, *others[: len(SERIES) - 1]]


def curve_of(row: Row) -> Curve:
    """Read the validation figures of a row, for the epochs that all its seeds have."""
    files = [RunFolder(run.folder).metrics for run in row.runs.values()]
    curves = [read_curve(file, row.figure.val) for file in files]
    shared = sorted(set(curves[0]).intersection(*curves[1:]))
    return {epoch: [curve[epoch] for curve in curves] for epoch in shared}


def read_curve(path: Path, key: str = "val/acc") -> dict[int, float]:
    """Read a validation figure by epoch, counted from 1, from a metrics.csv; {} if unusable."""
    try:
        text = read_text(path, _MAX_CSV)
        # Lightning writes training and validation metrics on lines of their own.
        lines = [line for line in csv.DictReader(text.splitlines()) if line.get(key)]
        # Before version 0.2 epochs were counted from 0.
        first = min((int(line["epoch"]) for line in lines), default=1)
        curve = {int(line["epoch"]) + (first == 0): float(line[key]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}
    valid = all(0 < epoch <= _MAX_EPOCH and 0 <= value <= 1 for epoch, value in curve.items())
    return curve if valid else {}


def _draw(curves: dict[str, Curve], words: str, theme: Theme) -> Figure:
    figure, ax = axes(theme, 3.3)
    styles = zip((theme.ink, *SERIES), DASHES, strict=False)
    for (label, curve), (colour, dashes) in zip(curves.items(), styles, strict=False):
        values = 100 * np.array(list(curve.values()))  # [epochs, seeds]
        mean = values.mean(axis=1)
        ax.plot(list(curve), mean, color=colour, linestyle=dashes, linewidth=1.5, label=label)
        if values.shape[1] > 1:
            spread = values.std(axis=1, ddof=1)
            band = list(curve), mean - spread, mean + spread
            ax.fill_between(*band, color=colour, alpha=0.13, linewidth=0)
    ax.set_ylim(*_limits(curves))
    ax.grid(axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"validation {words}, percent")
    legend_below(figure, *ax.get_legend_handles_labels(), handlelength=2.6)
    return figure


def _limits(curves: dict[str, Curve]) -> tuple[float, float]:
    """Limit the y axis to the last two thirds of training, where curves lie close together."""
    late = [
        100 * value
        for curve in curves.values()
        for epoch, values in curve.items()
        for value in values
        if epoch > max(curve) / 3
    ]
    low, high = min(late), max(late)
    room = 0.06 * (high - low or 1)
    return max(0.0, low - room), min(100.0 + room, high + room)
