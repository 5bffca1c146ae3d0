"""Validation accuracy by epoch, with the spread over seeds."""

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kd.io.run_folder import RunFolder
from kd.plots.style import DASHES, SERIES, Plan, Theme, axes, file_name, legend_below
from kd.reports.leaderboard import Group, Leaderboard
from kd.reports.rows import Row

ResumableCSVLogger = dict[str, dict[int, list[float]]]  # by row and epoch, one value a seed


def plan(board: Leaderboard) -> Iterator[Plan]:
    """One figure for each group whose runs kept their curves: the baseline and the best others."""
    for group in board.groups:
        curves = {row.label: seen for row in _chosen(group) if len(seen := epochs(row)) > 1}
        if curves:
            caption = (
                "Validation accuracy after each epoch: mean over seeds, and one standard deviation "
                "around it. The baseline and the rows best on validation."
            )
            title = f"Learning curves ({group.title})"
            yield Plan(file_name("curves", group.title), title, caption, partial(_draw, curves))


def _chosen(group: Group) -> list[Row]:
    others = [row for row in group.rows if row is not group.baseline]
    others.sort(key=lambda row: -(row.mean("val/acc") or 0))
    return [group.baseline, *others[: len(SERIES) - 1]]


def epochs(row: Row) -> dict[int, list[float]]:
    """Validation accuracies of all seeds by epoch, as far as every seed has them."""
    curves = [read_curve(RunFolder(run.folder).metrics) for run in row.runs.values()]
    shared = sorted(set(curves[0]).intersection(*curves[1:]))
    return {epoch: [curve[epoch] for curve in curves] for epoch in shared}


def read_curve(path: Path) -> dict[int, float]:
    """`val/acc` by epoch, counted from 1, in a run's metrics.csv; empty where there is none."""
    try:
        with path.open(newline="") as file:
            lines = [line for line in csv.DictReader(file) if line.get("val/acc")]
        return {int(line["epoch"]) + 1: float(line["val/acc"]) for line in lines}
    except (OSError, ValueError, KeyError):
        return {}


def _draw(curves: ResumableCSVLogger, theme: Theme) -> Figure:
    figure, ax = axes(theme, 3.3)
    looks = zip((theme.ink, *SERIES), DASHES, strict=False)
    for (label, seen), (colour, dashes) in zip(curves.items(), looks, strict=False):
        values = 100 * np.array(list(seen.values()))  # [epochs, seeds]
        mean = values.mean(axis=1)
        ax.plot(list(seen), mean, color=colour, linestyle=dashes, linewidth=1.5, label=label)
        if values.shape[1] > 1:
            spread = values.std(axis=1, ddof=1)
            band = list(seen), mean - spread, mean + spread
            ax.fill_between(*band, color=colour, alpha=0.13, linewidth=0)
    ax.set_ylim(*_limits(curves))
    ax.grid(axis="y")
    ax.set_xlabel("epoch")
    ax.set_ylabel("validation accuracy, percent")
    legend_below(figure, *ax.get_legend_handles_labels(), handlelength=2.6)
    return figure


def _limits(curves: ResumableCSVLogger) -> tuple[float, float]:
    """From where a third of the epochs are over, so that the end can be told apart, to the top."""
    late = [
        100 * value
        for seen in curves.values()
        for epoch, values in seen.items()
        for value in values
        if epoch > max(seen) / 3
    ]
    low, high = min(late), max(late)
    room = 0.06 * (high - low or 1)
    return max(0.0, low - room), min(100.0 + room, high + room)
