"""Figure of each row's difference from the baseline, with its interval and every seed."""

from collections.abc import Iterator
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd.plots.figure import FigureSpec, file_name
from kd.plots.style import BLUE, RED, Theme, axes, truncated
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row
from kd.reports.statistics import BETTER, WORSE

_MAX_ROWS = 60


def specs(board: Leaderboard) -> Iterator[FigureSpec]:
    """Yield one figure for each group with a comparison."""
    for group in board.groups:
        rows = [row for row in group.rows if row.comparison is not None][:_MAX_ROWS]
        if rows:
            caption = (
                f"Test {group.figure.words} minus that of {group.baseline.label} at the same seed: "
                "mean (large dot), 95 % bootstrap interval (line) and single seeds (small dots). A "
                "filled dot is better or worse after Holm's correction."
            )
            name = file_name("difference", group.title)
            title = f"Difference from {group.baseline.label} ({group.title})"
            yield FigureSpec(name, title, caption, partial(_draw, rows))


def _draw(rows: list[Row], theme: Theme) -> Figure:
    figure, ax = axes(theme, 0.75 + 0.235 * len(rows))
    ax.axvline(0, color=theme.muted, linewidth=0.9)
    for y, row in enumerate(rows):
        _draw_row(ax, y, row, theme)
    ax.set_yticks(range(len(rows)), [truncated(row.label) for row in rows], color=theme.ink)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x")
    ax.set_xlabel("percentage points")
    return figure


def _draw_row(ax: Axes, y: int, row: Row, theme: Theme) -> None:
    paired = row.comparison
    assert paired is not None
    colour = {BETTER: BLUE, WORSE: RED}.get(paired.verdict or "", theme.muted)
    # Filled or hollow as well as coloured: significance does not depend on colour alone.
    fill = colour if paired.verdict in (BETTER, WORSE) else theme.paper
    if paired.interval is not None:
        ax.plot([100 * end for end in paired.interval], [y, y], color=colour, linewidth=1.6)
    if paired.seeds > 1:
        points = [100 * d for d in paired.differences]
        ax.plot(points, [y] * len(points), "o", color=colour, alpha=0.45, markersize=2.6, mew=0)
    ax.plot(100 * paired.mean, y, "o", color=colour, mfc=fill, mew=1.3, markersize=5.5)
