"""The report as Markdown."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import zip_longest

from kd.io.printable import printable
from kd.reports.about import About, title, versions
from kd.reports.columns import Column, result_columns
from kd.reports.drawing import Drawing
from kd.reports.glossary import DEFINITIONS
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.lines import lines
from kd.reports.matrix import Matrix
from kd.reports.summary import missing_seeds, summary
from kd.reports.uncertainty_columns import further_columns


def markdown(
    board: Leaderboard,
    about: About,
    drawings: Sequence[Drawing],
    matrices: Sequence[Matrix] = (),
) -> str:
    """Return the whole report as Markdown; figures are linked, not embedded."""
    parts = [f"# {escape_markdown(title(about))}", _pairs(summary(board))]
    for group in board.groups:
        results, costs = (
            [c for c in columns if not c.page_only]
            for columns in (result_columns(board, group), further_columns(board, group))
        )
        parts += [f"## {escape_markdown(group.title)}", _table(group, results, costs)]
    for matrix, following in zip_longest(matrices, matrices[1:]):
        parts += [f"## {escape_markdown(matrix.title)}", _matrix(matrix)]
        if following is None or following.note != matrix.note:  # once for equal neighbours
            parts.append(matrix.note)
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
    body = []
    for line in lines(group, results, costs):
        left, right = ([text for text, _ in cells] for cells in (line.results, line.further))
        body.append([escape_markdown(line.label), *left, line.verdict, *right])
    return _joined([headings, rule, *body])


def _matrix(matrix: Matrix) -> str:
    rule = ["---", *["--:"] * (len(matrix.headings) - 1)]
    headings, *body = ([*map(escape_markdown, line)] for line in (matrix.headings, *matrix.rows))
    return _joined([headings, rule, *body])


def _joined(table: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def _picture(drawing: Drawing) -> str:
    # GitHub's Markdown shows the source that fits the reader's colour scheme.
    path = f"figures/{drawing.name}"
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{path}-dark.png">'
    image = f'<img src="{path}.png" width="560" alt="{escape(printable(drawing.title))}">'
    title, caption = escape_markdown(drawing.title), escape_markdown(drawing.caption)
    return f"### {title}\n\n<picture>{dark}{image}</picture>\n\n{caption}"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(
        f"- **{escape_markdown(term)}** {escape_markdown(text)}" for term, text in pairs
    )


def escape_markdown(text: object) -> str:
    """Return text as Markdown that shows it: no link, image, HTML, or end of a table cell.

    Every punctuation mark that CommonMark gives a meaning may be escaped by a backslash
    (https://spec.commonmark.org/0.31.2/#backslash-escapes). GitHub also links bare addresses.

    Example:
        >>> print(escape_markdown("[x](javascript:alert) ![y](//z) <b>"))
        \\[x\\](javascript&#58;alert) \\!\\[y\\](//z) &lt;b>
    """
    one_line = printable(" ".join(str(text).split()))
    escaped = re.sub(r"([\\`*\[\]|!~$]|(?<!\w)_|_(?!\w))", r"\\\1", one_line.replace("&", "&amp;"))
    escaped = escaped.replace("<", "&lt;").replace('"', "&quot;")
    escaped = re.sub(r"(?i)\b(\w+):(?=//|\S)", r"\1&#58;", escaped)
    return re.sub(r"(?i)\b(www)\.|@", lambda m: "www&#46;" if m[1] else "&#64;", escaped)
