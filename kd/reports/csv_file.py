"""The report as CSV: one line a row, fractions instead of percentages, nothing rounded."""

import csv
import io

from kd.io.csv_cell import csv_cell
from kd.reports.columns import verdict
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

_ROLES = ("data", "student", "method", "teacher", "mode")
_MEANS = (  # keys of result.json
    *("test/acc", "val/acc", "test/acc_last", "teacher/test/acc", "student/params"),
    *("images_per_second", "fit_seconds", "teacher_forwards"),
)


def csv_text(board: Leaderboard) -> str:
    """Return the leaderboard as CSV; "" without any row."""
    file = io.StringIO()
    records = [_record(row, group) for group in board.groups for row in group.rows]
    if records:
        writer = csv.DictWriter(file, records[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: csv_cell(value) for key, value in each.items()} for each in records)
    return file.getvalue()


def _record(row: Row, group: Group) -> dict[str, object]:
    interval = row.interval() or (None, None)  # None becomes an empty cell
    own = {
        "n": len(row.runs),
        "seeds": " ".join(map(str, sorted(row.runs))),
        **{key: row.mean(key) for key in _MEANS},
        "test/acc sd": row.deviation("test/acc"),
        "test/acc low": interval[0],
        "test/acc high": interval[1],
        "gap_recovered": row.gap,
    }
    names = {role: row.settings[role] for role in _ROLES}
    return (
        {"group": group.title, "row": row.title, **names, **own}
        | _comparison(row, group)
        | {"configuration": row.configuration}
    )


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
