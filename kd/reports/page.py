"""The report as one self-contained HTML page."""

from collections.abc import Sequence
from typing import Any

from kd.reports.about import About, title, versions
from kd.reports.columns import Column, result_columns, score_heading
from kd.reports.drawing import Drawing
from kd.reports.glossary import DEFINITIONS
from kd.reports.groups import Group
from kd.reports.html import render
from kd.reports.leaderboard import Leaderboard
from kd.reports.lines import lines
from kd.reports.matrix import Matrix
from kd.reports.statistics import BETTER, SAME, WORSE
from kd.reports.summary import missing_seeds, summary
from kd.reports.uncertainty_columns import further_columns

_CSS_CLASSES = {BETTER: "better", WORSE: "worse", SAME: "same", "baseline": "base"}


def page(
    board: Leaderboard,
    about: About,
    drawings: Sequence[Drawing],
    files: Sequence[str] = (),
    matrices: Sequence[Matrix] = (),
) -> str:
    """Return the whole report as HTML that loads no other file and needs no network.

    Args:
        board: the runs, compared.
        about: how the report was made.
        drawings: the figures, which are embedded.
        files: names of the report's files, recorded in the page; a later report replaces these.
        matrices: teacher × student, shown below the tables.
    """
    return render(
        "page.html",
        drawings,
        title=title(about),
        files=files,
        summary=summary(board),
        groups=[
            _table(group, result_columns(board, group), further_columns(board, group))
            for group in board.groups
        ],
        matrices=matrices,
        excluded=board.excluded,
        missing=missing_seeds(board),
        definitions=DEFINITIONS,
        about=about,
        versions=versions(board),
    )


def _table(group: Group, results: list[Column], costs: list[Column]) -> dict[str, Any]:
    rows = [
        {
            "label": line.label,
            "verdict": line.verdict,
            "css": _CSS_CLASSES.get(line.verdict, "none"),
            "results": [(text, _sort_key(number)) for text, number in line.results],
            "costs": [(text, _sort_key(number)) for text, number in line.further],
        }
        for line in lines(group, results, costs)
    ]
    return {
        "title": group.title,
        "sorted_by": score_heading(group),
        "rows": rows,
        "results": results,
        "costs": costs,
    }


def _sort_key(number: float | None) -> str:
    return "" if number is None else repr(float(number))
