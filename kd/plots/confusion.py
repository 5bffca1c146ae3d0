"""Figure of a student's confusion matrix minus its teacher's."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kd.plots.figure import FigureSpec
from kd.plots.matrix import finish_matrix
from kd.plots.style import Theme, axes

_MAX_NUMBERED = 12  # classes up to which a cell has room for its number
_DIVERGING = LinearSegmentedColormap.from_list("difference", ["#1b7abf", "#f4f5f6", "#cf5a00"])

Floats = NDArray[np.float64]


def confusion_difference(teacher: Floats, student: Floats, names: Sequence[str]) -> FigureSpec:
    """Show, for each label, how much more often the student predicts a class than the teacher.

    Args:
        teacher, student: counts [K, K] by label and prediction.
        names: of the K classes.
    """
    caption = (
        "Percentage of the test images of a class (row) that the student assigns to a class "
        "(column), minus the teacher's percentage: orange is more often, blue is less often. On "
        "the diagonal, orange is a gain of the student; off the diagonal, an additional error."
    )
    difference = 100 * (_by_label(student) - _by_label(teacher))
    title = "Student's confusion matrix minus the teacher's"
    return FigureSpec("confusion", title, caption, partial(_draw, difference, names))


def _by_label(counts: Floats) -> Floats:
    """Divide each row by its sum; a class without images has a row of zeros."""
    fractions: Floats = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return fractions


def _draw(difference: Floats, names: Sequence[str], theme: Theme) -> Figure:
    figure, ax = axes(theme, 4.6)
    most = max(np.abs(difference).max(), 1e-9)  # TwoSlopeNorm needs low < 0 < high
    mesh = ax.pcolormesh(difference, cmap=_DIVERGING, norm=TwoSlopeNorm(0, -most, most))
    if len(names) <= _MAX_NUMBERED:
        mesh.set(edgecolor=theme.paper, linewidth=1.2)
        for row, column in zip(*np.nonzero(np.abs(difference) >= 0.05), strict=True):
            text = f"{difference[row, column]:+.1f}".replace("-", "−")
            place = (column + 0.5, row + 0.5)
            ax.annotate(text, place, ha="center", va="center", color="#101820", fontsize=7)
        ticks = np.arange(len(names)) + 0.5
        ax.set_xticks(ticks, names, rotation=0 if max(map(len, names)) == 1 else 90)
        ax.set_yticks(ticks, names)
    return finish_matrix(figure, ax, mesh, theme)
