"""Selection and drawing of a report's figures (needs the extra `plots`)."""

from pathlib import Path

from kd.plots.figure import save
from kd.reports.drawing import Drawing
from kd.reports.figures import (
    class_accuracies,
    differences,
    learning_curves,
    pareto,
    temperature_alpha,
)
from kd.reports.leaderboard import Leaderboard

MAX_PER_KIND = 6
_KINDS = (differences, temperature_alpha, pareto, learning_curves, class_accuracies)


def draw_figures(board: Leaderboard, folder: Path) -> tuple[list[Drawing], int]:
    """Draw the figures of a leaderboard into a folder.

    Returns:
        The drawings, at most MAX_PER_KIND of a kind, and the number of figures left out.
    """
    drawn, left_out = [], 0
    for kind in _KINDS:
        specs = list(kind.specs(board))
        left_out += len(specs[MAX_PER_KIND:])
        drawn += [
            Drawing(s.name, s.title, s.caption, save(s.draw, folder, s.name))
            for s in specs[:MAX_PER_KIND]
        ]
    return drawn, left_out
