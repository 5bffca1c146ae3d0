"""What a teacher's answers say beside the label, and who confuses what."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kd.plots.style import BLUE, WIDTH, Plan, Theme, axes

TEMPERATURES = (1, 2, 5, 10, 20)
_MOST_CLASSES = 10  # whose probabilities stand beside an image
_MOST_NUMBERS = 12  # classes up to which a matrix has room for them
_MORE_OR_LESS = LinearSegmentedColormap.from_list("difference", ["#1b7abf", "#f4f5f6", "#cf5a00"])

Floats = NDArray[np.float64]


def dark_knowledge(
    images: NDArray[np.uint8], targets: Sequence[int], logits: Floats, names: Sequence[str]
) -> Plan:
    """A row for each image: it, and the teacher's answer to it, softened more and more.

    Args:
        images: [n, C, S, S].
        targets: their n labels.
        logits: the teacher's [n, K].
        names: of the K classes.
    """
    classes = "each class" if len(names) <= _MOST_CLASSES else f"the {_MOST_CLASSES} likeliest"
    caption = (
        f"What the teacher says to {len(images)} test images: the probability of {classes} at "
        "temperatures 1 to 20, the label's bar in blue, and the entropy in bits. What is left "
        "beside the label tells which classes look alike to it."
    )
    draw = partial(_draw_answers, images, targets, logits, names)
    return Plan("dark-knowledge", "Dark knowledge", caption, draw)


def softened(logits: Floats, temperature: float) -> Floats:
    """softmax(logits / T) over the last axis."""
    shifted = (logits - logits.max(-1, keepdims=True)) / temperature
    powers: Floats = np.exp(shifted)
    found: Floats = powers / powers.sum(-1, keepdims=True)
    return found


def entropy(probabilities: Floats) -> Floats:
    """In bits, over the last axis."""
    logs = np.log2(np.where(probabilities > 0, probabilities, 1))
    found: Floats = -(probabilities * logs).sum(-1)
    return found


def _draw_answers(
    images: NDArray[np.uint8],
    targets: Sequence[int],
    logits: Floats,
    names: Sequence[str],
    theme: Theme,
) -> Figure:
    alike = len(names) <= _MOST_CLASSES  # all rows have the same bars
    figure = Figure(
        figsize=(WIDTH, 0.6 + (0.8 if alike else 1.3) * len(images)),
        layout="constrained",
        facecolor=theme.paper,
    )
    grid = figure.subplots(len(images), 1 + len(TEMPERATURES), squeeze=False)
    last = len(images) - 1
    for n, (row, image, target, answer) in enumerate(
        zip(grid, images, targets, logits, strict=True)
    ):
        row[0].imshow(image.transpose(1, 2, 0), cmap="gray_r", vmin=0, vmax=255)
        row[0].set_axis_off()
        row[0].set_title(names[target], fontsize=8, color=theme.ink, pad=2)
        shown = np.arange(len(names)) if alike else np.argsort(-answer)[:_MOST_CLASSES]
        for ax, temperature in zip(row[1:], TEMPERATURES, strict=True):
            _bars(ax, softened(answer, temperature), shown, target, theme)
            _name_bars(ax, [names[c] for c in shown] if not alike or n == last else [])
    for ax, temperature in zip(grid[0, 1:], TEMPERATURES, strict=True):
        ax.set_title(f"T = {temperature}", fontsize=8.5, color=theme.ink, pad=4)
    return figure


def _bars(ax: Axes, answer: Floats, shown: NDArray[np.int64], target: int, theme: Theme) -> None:
    colours = [BLUE if c == target else theme.muted for c in shown]
    ax.set_facecolor("none")
    ax.bar(range(len(shown)), answer[shown], color=colours, width=0.8)
    ax.set_ylim(0, 1.02)
    ax.set_yticks([])
    ax.tick_params(length=0, pad=1)
    ax.spines[["top", "right", "left"]].set_visible(False)
    said = f"{entropy(answer):.2f}"
    place = ax.transAxes
    ax.text(0.98, 0.98, said, transform=place, ha="right", va="top", size=6.5, color=theme.muted)


def _name_bars(ax: Axes, names: Sequence[str]) -> None:
    turned = 90 if any(len(name) > 1 for name in names) else 0
    ax.set_xticks(range(len(names)), names, fontsize=6, rotation=turned)


def confusion_difference(teacher: Floats, student: Floats, names: Sequence[str]) -> Plan:
    """How much oftener than its teacher a student answers a class, label by label.

    Args:
        teacher, student: counts [K, K] by label and prediction.
        names: of the K classes.
    """
    caption = (
        "Of the test images of a class (row), how many more in percent the student assigns to a "
        "class (column) than its teacher does: orange is oftener, blue is less often. On the "
        "diagonal orange is the student's gain, elsewhere an error that it makes more."
    )
    difference = 100 * (_shares(student) - _shares(teacher))
    title = "Student's confusions minus the teacher's"
    return Plan("confusion", title, caption, partial(_draw_difference, difference, names))


def _shares(counts: Floats) -> Floats:
    found: Floats = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return found


def _draw_difference(difference: Floats, names: Sequence[str], theme: Theme) -> Figure:
    figure, ax = axes(theme, 4.6)
    most = max(np.abs(difference).max(), 1e-9)
    norm = TwoSlopeNorm(0, -most, most)
    mesh = ax.pcolormesh(difference, cmap=_MORE_OR_LESS, norm=norm)
    if len(names) <= _MOST_NUMBERS:
        mesh.set(edgecolor=theme.paper, linewidth=1.2)
        for row, column in zip(*np.nonzero(np.abs(difference) >= 0.05), strict=True):
            text = f"{difference[row, column]:+.1f}".replace("-", "−")
            place = (column + 0.5, row + 0.5)
            ax.annotate(text, place, ha="center", va="center", color="#101820", fontsize=7)
        ticks = np.arange(len(names)) + 0.5
        ax.set_xticks(ticks, names, rotation=0 if max(map(len, names)) == 1 else 90)
        ax.set_yticks(ticks, names)
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("prediction")
    ax.set_ylabel("label")
    bar = figure.colorbar(mesh, shrink=0.6, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label("percent of a class's images", color=theme.muted)
    return figure
