"""Selection and drawing of a report's figures (needs the extra `plots`)."""

import logging
from pathlib import Path

from kd.io.printable import printable
from kd.plots.figure import FigureSpec, save
from kd.reports.drawing import Drawing
from kd.reports.figures import (
    budget,
    class_accuracies,
    differences,
    learning_curves,
    pareto,
    temperature,
    temperature_alpha,
)
from kd.reports.leaderboard import Leaderboard

log = logging.getLogger(__name__)
MAX_PER_KIND = 6
_KINDS = (
    differences,
    temperature_alpha,
    temperature,
    pareto,
    learning_curves,
    class_accuracies,
    budget,
)


def draw_figures(board: Leaderboard, folder: Path) -> tuple[list[Drawing], int]:
    """Draw the figures of a leaderboard into a folder.

    Returns:
        The drawings, at most MAX_PER_KIND of a kind, and the number of figures left out.
    """
    drawn, left_out = [], 0
    for kind in _KINDS:
        specs = list(kind.specs(board))
        left_out += len(specs[MAX_PER_KIND:])
        drawn += [one for s in specs[:MAX_PER_KIND] if (one := _drawn(s, folder)) is not None]
    return drawn, left_out


def _drawn(spec: FigureSpec, folder: Path) -> Drawing | None:
    """Draw one figure; None, and a warning, for values that matplotlib cannot draw."""
    try:
        return Drawing(spec.name, spec.title, spec.caption, save(spec.draw, folder, spec.name))
    except (ValueError, ArithmeticError) as error:  # of numbers near the end of their range
        log.warning("%s cannot be drawn: %s", printable(spec.title), printable(error))
        for path in folder.glob(f"{spec.name}*"):
            path.unlink()
        return None
