"""Figure of the test accuracy of each class: best row, baseline and teacher."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kd.plots.figure import FigureSpec, file_name
from kd.plots.style import BLUE, RED, Theme, axes, legend_below
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

_KEY = "test/acc_per_class"
_MAX_CLASSES = 30  # more do not fit on one screen
Series = dict[str, NDArray[np.float64]]  # label → percent [classes]


def specs(board: Leaderboard) -> Iterator[FigureSpec]:
    """Yield one figure for each group whose runs recorded accuracies by class."""
    for group in board.groups:
        series = _series(group)
        if not series:
            continue
        # Classes in descending order of the range between the nets, to choose from.
        ranges = np.ptp(list(series.values()), axis=0)
        order = np.argsort(ranges, kind="stable")[::-1]
        order = order[np.isfinite(ranges[order])]  # a class without test images has no accuracy
        chosen = sorted(order[:_MAX_CLASSES].tolist())
        caption = "Test accuracy of each class in percent, mean over seeds."
        if len(order) > _MAX_CLASSES:
            caption += f" Shown are the {_MAX_CLASSES} of {len(order)} classes that differ most."
        title = f"Accuracy by class ({group.title})"
        draw = partial(_draw, series, chosen)
        yield FigureSpec(file_name("classes", group.title), title, caption, draw)


def _series(group: Group) -> Series:
    """The teacher, the baseline and the row with the best validation accuracy."""
    rows = [row for row in group.rows if _mean(row, _KEY) is not None]
    if not rows:
        return {}
    best = max(rows, key=lambda row: row.mean(row.figure.val) or 0)
    teacher = f"teacher {best.settings['teacher']}"
    found = {
        teacher: _mean(best, f"teacher/{_KEY}"),
        group.baseline.label: _mean(group.baseline, _KEY),
        best.label: _mean(best, _KEY),
    }
    known = {name: 100 * values for name, values in found.items() if values is not None}
    return known if len({len(values) for values in known.values()}) == 1 else {}


def _mean(row: Row, key: str) -> NDArray[np.float64] | None:
    """Average a list of class accuracies over runs [classes]; None if a run has none."""
    lists: list[Any] = [run.result.get(key) for run in row.runs.values()]
    if not all(isinstance(values, list) and values for values in lists):
        return None
    if len({len(values) for values in lists}) > 1:  # the runs had different classes
        return None
    mean: NDArray[np.float64] = np.mean(np.array(lists, dtype=np.float64), axis=0)
    return mean


def _draw(series: Series, chosen: list[int], theme: Theme) -> Figure:
    figure, ax = axes(theme, 1.0 + 0.2 * len(chosen))
    # Taken from the end, so that the rows keep their colours without a teacher.
    marks = [("s", theme.muted), ("D", RED), ("o", BLUE)][-len(series) :]
    values = np.array(list(series.values()))[:, chosen]  # [series, classes]
    ax.hlines(range(len(chosen)), values.min(0), values.max(0), color=theme.rule, linewidth=2)
    for (mark, colour), name, row in zip(marks, series, values, strict=True):
        ax.plot(row, range(len(chosen)), mark, color=colour, markersize=5, label=name)
    ax.set_yticks(range(len(chosen)), [str(c) for c in chosen])
    ax.set_ylim(len(chosen) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("class")
    ax.set_xlabel("test accuracy, percent")
    ax.grid(axis="x")
    legend_below(figure, *ax.get_legend_handles_labels(), handletextpad=0.1)
    return figure
