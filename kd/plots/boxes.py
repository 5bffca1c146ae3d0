"""Figure of images with the true boxes beside those that nets find."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from kd.plots.figure import FigureSpec
from kd.plots.style import BLUE, GREEN, RED, WIDTH, Theme

_COLOURS = {"labels": GREEN, "teacher": BLUE, "student": RED}


class Boxes(NamedTuple):
    """Boxes of one image: corners (x1, y1, x2, y2) in pixels [n, 4], labels and scores [n].

    `scores` is None for true boxes.
    """

    corners: NDArray[np.float64]
    labels: Sequence[int]
    scores: Sequence[float] | None = None


def boxes_figure(
    images: NDArray[np.uint8], columns: dict[str, list[Boxes]], names: Sequence[str]
) -> FigureSpec:
    """Show images once for each source of boxes.

    Args:
        images: [n, C, S, S], uint8.
        columns: boxes of the n images by source: `labels`, `teacher`, `student`.
        names: of the K classes.
    """
    caption = (
        f"{len(images)} test images with their labelled boxes and those that "
        f"{' and '.join(name for name in columns if name != 'labels')} find, each with its class "
        "and score."
    )
    draw = partial(_draw, images, columns, names)
    return FigureSpec("boxes", "Labelled and detected boxes", caption, draw)


def _draw(
    images: NDArray[np.uint8],
    columns: dict[str, list[Boxes]],
    names: Sequence[str],
    theme: Theme,
) -> Figure:
    side = WIDTH / 3
    size = (side * len(columns), 0.2 + side * len(images))
    figure = Figure(figsize=size, layout="constrained", facecolor=theme.paper)
    grid = figure.subplots(len(images), len(columns), squeeze=False)
    for column, (source, found) in zip(grid.T, columns.items(), strict=True):
        column[0].set_title(source, fontsize=8.5, color=theme.ink, pad=4)
        for ax, image, boxes in zip(column, images, found, strict=True):
            # The colour map is for one channel; Matplotlib ignores it for three.
            ax.imshow(image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
            ax.set_axis_off()
            _boxes(ax, boxes, names, _COLOURS[source])
    return figure


def _boxes(ax: Axes, boxes: Boxes, names: Sequence[str], colour: str) -> None:
    for n, (x1, y1, x2, y2) in enumerate(boxes.corners):
        # A pixel's middle is at whole numbers, its left edge half a pixel before
        corner, width, height = (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1
        ax.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=1.2))
        score = "" if boxes.scores is None else f" {boxes.scores[n]:.2f}"
        text = names[boxes.labels[n]] + score
        style = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
        ax.text(*corner, text, fontsize=5.5, color="white", va="bottom", bbox=style, clip_on=True)
