"""A leaderboard as one self-contained page; a run's name is text there, never markup."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kd.reports.about import DEFINITIONS, About, Drawing, missing, summary, title, versions
from kd.reports.columns import Column, columns, costs, verdict
from kd.reports.leaderboard import Group, Leaderboard
from kd.reports.statistics import BETTER, SAME, WORSE

_HERE = Path(__file__).resolve().parent
_BADGES = {BETTER: "better", WORSE: "worse", SAME: "same", "baseline": "base"}


def page(board: Leaderboard, about: About, drawings: Sequence[Drawing]) -> str:
    """The whole report as HTML that needs no other file and no network."""
    loader = FileSystemLoader(_HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(
        title=title(about),
        summary=summary(board),
        groups=[_table(group, columns(board), costs()) for group in board.groups],
        # The drawing's own text was escaped when it was drawn.
        drawings=[drawing._replace(svg=Markup(drawing.svg)) for drawing in drawings],
        unfinished=board.unfinished,
        missing=missing(board),
        definitions=DEFINITIONS,
        about=about,
        versions=versions(board),
    )


def _table(group: Group, before: list[Column], behind: list[Column]) -> dict[str, Any]:
    rows = [
        {
            "label": row.label,
            "verdict": verdict(row, group),
            "badge": _BADGES.get(verdict(row, group), "none"),
            "before": [(c.text(row), _key(c.number(row))) for c in before],
            "behind": [(c.text(row), _key(c.number(row))) for c in behind],
        }
        for row in group.rows
    ]
    return {"title": group.title, "rows": rows, "before": before, "behind": behind}


def _key(number: float | None) -> str:
    return "" if number is None else repr(float(number))
