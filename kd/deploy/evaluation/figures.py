"""Figures of an evaluation: reliability diagram, confusion, accuracy under corruption."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kd.deploy.evaluation.robustness import SEVERITIES, STRENGTHS
from kd.deploy.evaluation.sheet import EvaluatedNet, Sheet
from kd.deploy.evaluation.words import in_words
from kd.plots.confusion import confusion_difference
from kd.plots.figure import FigureSpec, save
from kd.plots.matrix import finish_matrix
from kd.plots.style import BLUE, DASHES, HEAT, RED, WIDTH, Theme, axes, legend_below, truncated
from kd.reports.drawing import Drawing

_MARKS = {"teacher": "s", "student": "o", "baseline": "D"}
_DASHES = dict(zip(("student", "baseline", "teacher"), DASHES, strict=False))
_MAX_NAMED = 30  # classes up to which the axes have room for names


def draw_figures(sheet: Sheet, folder: Path) -> list[Drawing]:
    """Draw the figures of a sheet into a folder that exists."""
    return [
        Drawing(
            spec.name,
            spec.title,
            in_words(spec.caption, sheet.task),
            save(spec.draw, folder, spec.name),
        )
        for spec in specs(sheet)
    ]


def specs(sheet: Sheet) -> Iterator[FigureSpec]:
    """Yield the figures that the sheet has values for."""
    if any("reliability" not in net.figures for net in sheet.nets):
        return  # detectors
    caption = (
        "Accuracy of the test images in each of 15 bins of confidence, the probability of the "
        "predicted class at temperature 1. On the diagonal confidence and accuracy are equal; "
        "below it a net is overconfident. A larger mark is a bin of more images."
    )
    yield FigureSpec("reliability", "Reliability diagram", caption, partial(_reliability, sheet))
    yield _confusion(sheet)
    teacher, student = sheet.net("teacher"), sheet.net("student")
    if teacher is not None and student is not None:
        difference = confusion_difference(_counts(teacher), _counts(student), sheet.class_names)
        yield difference._replace(name="confusion-difference")
    if any("acc/corrupted" in net.figures for net in sheet.nets):
        caption = (
            "Accuracy on the test images as they are (0) and corrupted at strengths 1 to 3, which "
            "are severities 1, 3 and 5 of CIFAR-10-C."
        )
        yield FigureSpec("corruption", "Accuracy under corruption", caption, partial(_lines, sheet))


def _counts(net: EvaluatedNet) -> NDArray[np.float64]:
    return np.array(net.figures["confusion"], dtype=np.float64)


def _colour(net: EvaluatedNet, theme: Theme) -> str:
    return {"student": BLUE, "baseline": RED}.get(net.role, theme.muted)


def _reliability(sheet: Sheet, theme: Theme) -> Figure:
    figure, ax = axes(theme, 4.6)
    ax.plot([0, 1], [0, 1], color=theme.rule, linewidth=1)
    for net in sheet.nets:
        bins = [each for each in net.figures["reliability"] if each["images"]]
        x, y = ([each[name] for each in bins] for name in ("confidence", "accuracy"))
        colour = _colour(net, theme)
        ax.plot(x, y, color=colour, linewidth=1.2, linestyle=_DASHES[net.role])
        share = np.array([each["images"] for each in bins]) / net.figures["images"]
        ax.scatter(
            x, y, 10 + 90 * share, color=colour, marker=_MARKS[net.role], label=net.role, zorder=3,
            clip_on=False,
        )  # fmt: skip
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="mean confidence", ylabel="accuracy")
    ax.set_aspect("equal")
    ax.grid()
    legend_below(figure, *ax.get_legend_handles_labels())
    return figure


def _confusion(sheet: Sheet) -> FigureSpec:
    student = sheet.net("student")
    assert student is not None
    counts = _counts(student)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    caption = (
        "Percentage of the test images of a class (row) that the student assigns to each class "
        "(column)."
    )
    draw = partial(_heat, shares, sheet.class_names)
    return FigureSpec("confusion", "Confusion matrix of the student", caption, draw)


def _heat(shares: NDArray[np.float64], names: Sequence[str], theme: Theme) -> Figure:
    figure, ax = axes(theme, 4.6)
    mesh = ax.pcolormesh(shares, cmap=HEAT, vmin=0, vmax=100)
    if len(names) <= 12:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.05:
                colour = "#ffffff" if share > 50 else "#101820"
                place = (column + 0.5, row + 0.5)
                ax.annotate(
                    f"{share:.1f}", place, ha="center", va="center", color=colour, fontsize=7
                )
    if len(names) <= _MAX_NAMED:
        ticks = np.arange(len(names)) + 0.5
        shown = [*map(truncated, names)]
        ax.set_xticks(ticks, shown, rotation=0 if max(map(len, names)) == 1 else 90)
        ax.set_yticks(ticks, shown)
    return finish_matrix(figure, ax, mesh, theme)


def _lines(sheet: Sheet, theme: Theme) -> Figure:
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained", facecolor=theme.paper)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for ax, kind in zip(grid.flat, SEVERITIES, strict=True):
        ax.set_facecolor("none")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title(kind, fontsize=9, color=theme.ink)
        ax.grid(axis="y")
        for net in sheet.nets:
            values = [net.figures["acc"], *(net.figures.get(f"acc/{kind}/{s}") for s in STRENGTHS)]
            percent = [np.nan if value is None else 100 * value for value in values]
            ax.plot(
                [0, *STRENGTHS], percent, color=_colour(net, theme), marker=_MARKS[net.role],
                markersize=4, linestyle=_DASHES[net.role], label=net.role,
            )  # fmt: skip
        ax.set_xticks([0, *STRENGTHS])
    for ax in grid[1]:
        ax.set_xlabel("strength")
    figure.supylabel("accuracy, percent", fontsize=9, color=theme.muted)
    legend_below(figure, *grid[0, 0].get_legend_handles_labels())
    return figure
