"""Figure of a teacher's softened probabilities on some images (its "dark knowledge")."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import entr, softmax

from kd.plots.figure import FigureSpec
from kd.plots.style import BLUE, WIDTH, Theme

TEMPERATURES = (1, 2, 5, 10, 20)
_MAX_BARS = 10  # classes shown for one image

Floats = NDArray[np.float64]


def dark_knowledge(
    images: NDArray[np.uint8], targets: Sequence[int], logits: Floats, names: Sequence[str]
) -> FigureSpec:
    """Show images beside the teacher's class probabilities at rising temperatures.

    The probabilities of the wrong classes carry what distillation transfers beyond the label:
    Hinton, Vinyals & Dean 2015, https://arxiv.org/abs/1503.02531.

    Args:
        images: [n, C, S, S], uint8.
        targets: the n labels.
        logits: the teacher's logits [n, K].
        names: of the K classes.
    """
    classes = "each class" if len(names) <= _MAX_BARS else f"the {_MAX_BARS} most likely classes"
    caption = (
        f"The teacher's probability of {classes} for {len(images)} test images, softened with "
        "temperatures 1 to 20. The label's bar is blue; the number is the entropy in bits. "
        "Probability on another class indicates its similarity to the label."
    )
    draw = partial(_draw, images, targets, logits, names)
    return FigureSpec("dark-knowledge", "Dark knowledge", caption, draw)


def soften(logits: Floats, temperature: float) -> Floats:
    """Return softmax(logits / T) over the last axis.

    Example:
        >>> soften(np.array([0.0, np.log(9.0)]), 1).round(2).tolist()
        [0.1, 0.9]
        >>> soften(np.array([0.0, np.log(9.0)]), 2).round(2).tolist()
        [0.25, 0.75]
    """
    softened: Floats = softmax(logits / temperature, axis=-1)
    return softened


def entropy_bits(probabilities: Floats) -> Floats:
    """Return the entropy over the last axis, in bits.

    Example:
        >>> float(entropy_bits(np.array([0.25, 0.25, 0.25, 0.25])))
        2.0
    """
    bits: Floats = entr(probabilities).sum(-1) / np.log(2)
    return bits


def _draw(
    images: NDArray[np.uint8],
    targets: Sequence[int],
    logits: Floats,
    names: Sequence[str],
    theme: Theme,
) -> Figure:
    same_bars = len(names) <= _MAX_BARS  # all rows show the same classes: named once, below
    height = 0.6 + (0.8 if same_bars else 1.3) * len(images)
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor=theme.paper)
    grid = figure.subplots(len(images), 1 + len(TEMPERATURES), squeeze=False)
    last = len(images) - 1
    for n, (row, image, target, own) in enumerate(zip(grid, images, targets, logits, strict=True)):
        _image(row[0], image, names[target], theme)
        shown = np.arange(len(names)) if same_bars else np.argsort(-own)[:_MAX_BARS]
        for ax, temperature in zip(row[1:], TEMPERATURES, strict=True):
            _bars(ax, soften(own, temperature), shown, target, theme)
            _name_bars(ax, [names[c] for c in shown] if not same_bars or n == last else [])
    for ax, temperature in zip(grid[0, 1:], TEMPERATURES, strict=True):
        ax.set_title(f"T = {temperature}", fontsize=8.5, color=theme.ink, pad=4)
    return figure


def _image(ax: Axes, image: NDArray[np.uint8], name: str, theme: Theme) -> None:
    # [C, S, S] → [S, S, C]; the colour map is for one channel, Matplotlib ignores it for three.
    ax.imshow(image.transpose(1, 2, 0), cmap="gray_r", vmin=0, vmax=255)
    ax.set_axis_off()
    ax.set_title(name, fontsize=8, color=theme.ink, pad=2)


def _bars(ax: Axes, own: Floats, shown: NDArray[np.int64], target: int, theme: Theme) -> None:
    colours = [BLUE if c == target else theme.muted for c in shown]
    ax.set_facecolor("none")
    ax.bar(range(len(shown)), own[shown], color=colours, width=0.8)
    ax.set_ylim(0, 1.02)
    ax.set_yticks([])
    ax.tick_params(length=0, pad=1)
    ax.spines[["top", "right", "left"]].set_visible(False)
    text, place = f"{entropy_bits(own):.2f}", ax.transAxes
    ax.text(0.98, 0.98, text, transform=place, ha="right", va="top", size=6.5, color=theme.muted)


def _name_bars(ax: Axes, names: Sequence[str]) -> None:
    turned = 90 if any(len(name) > 1 for name in names) else 0
    ax.set_xticks(range(len(names)), names, fontsize=6, rotation=turned)
