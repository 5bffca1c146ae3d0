"""Which figures a leaderboard gives; needs the extra `plots`."""

from pathlib import Path

from kd.plots.style import save
from kd.reports.about import Drawing
from kd.reports.figures import classes, curves, differences, heat_maps, pareto
from kd.reports.leaderboard import Leaderboard

MOST = 6  # of a kind


def draw_figures(board: Leaderboard, folder: Path) -> tuple[list[Drawing], int]:
    """Draw all figures into a folder; returns them, and how many more of a kind were left out."""
    drawn, left_out = [], 0
    for kind in (differences.plan, heat_maps.plan, pareto.plan, curves.plan, classes.plan):
        planned = list(kind(board))
        left_out += len(planned[MOST:])
        drawn += [
            Drawing(p.name, p.title, p.caption, save(p.draw, folder, p.name))
            for p in planned[:MOST]
        ]
    return drawn, left_out
