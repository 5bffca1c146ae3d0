"""The report as CSV: one line a row, fractions instead of percentages, nothing rounded."""

import csv
import io
from collections.abc import Iterator, Sequence

from kd.io.csv_cell import csv_cell
from kd.io.task_figures import TaskFigure
from kd.reports.columns import verdict
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

_ROLES = ("data", "student", "method", "teacher", "mode")
_MEANS = ("student/params", "images_per_second", "fit_seconds", "teacher_forwards")


def csv_text(board: Leaderboard) -> str:
    """Return the leaderboard as CSV; "" without any row."""
    file = io.StringIO()
    records = [_record(row, group, board.figures) for group in board.groups for row in group.rows]
    if records:
        writer = csv.DictWriter(file, records[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: csv_cell(value) for key, value in each.items()} for each in records)
    return file.getvalue()


def _record(row: Row, group: Group, figures: Sequence[TaskFigure]) -> dict[str, object]:
    own = {
        "n": len(row.runs),
        "seeds": " ".join(map(str, sorted(row.runs))),
        **{key: row.mean(key) for figure in figures for key in _keys(figure)},
        **{key: row.mean(key) for key in _MEANS},
        **{key: value for figure in figures for key, value in _spread(row, figure.test)},
        "gap_recovered": row.gap,
    }
    names = {role: row.settings[role] for role in _ROLES}
    return (
        {"group": group.title, "row": row.title, **names, **own}
        | _comparison(row, group)
        | {"against_controls": row.against_controls}
        | _uncertainty(row)
        | {"configuration": row.configuration}
    )


def _keys(figure: TaskFigure) -> tuple[str, ...]:
    return figure.test, figure.val, f"{figure.test}_last", f"teacher/{figure.test}"


def _spread(row: Row, key: str) -> Iterator[tuple[str, float | None]]:
    low, high = row.interval(key) or (None, None)  # None becomes an empty cell
    yield f"{key} sd", row.deviation(key)
    yield f"{key} low", low
    yield f"{key} high", high


def _comparison(row: Row, group: Group) -> dict[str, object]:
    paired = row.comparison
    low, high = (paired and paired.interval) or (None, None)
    return {
        "baseline": group.baseline.label,
        "common_seeds": paired.seeds if paired else None,
        "difference": paired.mean if paired else None,
        "difference low": low,
        "difference high": high,
        "p": paired.p if paired else None,
        "p_holm": paired.p_holm if paired else None,
        "verdict": verdict(row, group),
    }


def _uncertainty(row: Row) -> dict[str, object]:
    found = row.uncertainty
    low, high = (found.superiority and found.superiority.interval) or (None, None)
    right, wrong = found.agreement or (None, None)
    return {
        "test_set_error": found.test_error,
        "p_better": found.superiority and found.superiority.probability,
        "p_better low": low,
        "p_better high": high,
        "seeds_to_tell": found.needed and found.needed.estimate,
        "seeds_to_tell safe": found.needed and found.needed.safe,
        "mcnemar_p": found.images and found.images.p,
        "mcnemar wins": found.images and found.images.wins,
        "mcnemar losses": found.images and found.images.losses,
        "agreement teacher_right": right,
        "agreement teacher_wrong": wrong,
    }
