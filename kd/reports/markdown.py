"""The report as Markdown."""

from collections.abc import Iterable, Sequence

from kd.reports.about import About, title, versions
from kd.reports.columns import Column, cost_columns, result_columns, verdict
from kd.reports.drawing import Drawing
from kd.reports.glossary import DEFINITIONS
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.summary import missing_seeds, summary


def markdown(board: Leaderboard, about: About, drawings: Sequence[Drawing]) -> str:
    """Return the whole report as Markdown; figures are linked, not embedded."""
    parts = [f"# {_escape(title(about))}", _pairs(summary(board))]
    results, costs = (
        [c for c in columns if not c.page_only]
        for columns in (result_columns(board), cost_columns())
    )
    for group in board.groups:
        parts += [f"## {_escape(group.title)}", _table(group, results, costs)]
    parts += [_picture(drawing) for drawing in drawings]
    excluded = [(f"{item.state}: {item.folder}", item.why) for item in board.excluded]
    if excluded or missing_seeds(board):
        parts += ["## Missing results", _pairs([*missing_seeds(board), *excluded])]
    parts += ["## Definitions", _pairs(DEFINITIONS)]
    made = [("command", about.command), ("written", about.made), *versions(board)]
    return "\n\n".join([*parts, "## Reproduction", _pairs(made)]) + "\n"


def _table(group: Group, results: Sequence[Column], costs: Sequence[Column]) -> str:
    headings = ["row", *(c.heading for c in results), "verdict", *(c.heading for c in costs)]
    rule = ["---", *["--:"] * len(results), "---", *["--:"] * len(costs)]
    lines = [headings, rule]
    for row in group.rows:
        left, right = [c.text(row) for c in results], [c.text(row) for c in costs]
        lines.append([_escape(row.label), *left, verdict(row, group), *right])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _picture(drawing: Drawing) -> str:
    # GitHub's Markdown shows the source that fits the reader's colour scheme.
    path = f"figures/{drawing.name}"
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{path}-dark.png">'
    image = f'<img src="{path}.png" width="560" alt="{_escape(drawing.title)}">'
    return f"### {_escape(drawing.title)}\n\n<picture>{dark}{image}</picture>\n\n{drawing.caption}"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- **{_escape(term)}** {_escape(text)}" for term, text in pairs)


def _escape(text: str) -> str:
    """Escape text that would end a table cell or open an HTML tag."""
    one_line = " ".join(text.split())
    return one_line.replace("|", "\\|").replace("<", "&lt;").replace('"', "&quot;")
