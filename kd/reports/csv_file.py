"""The report as CSV: one line a row, fractions instead of percentages, nothing rounded."""

import csv
import io

from kd.io.printable import printable
from kd.reports.columns import verdict
from kd.reports.groups import Group
from kd.reports.leaderboard import Leaderboard
from kd.reports.rows import Row

# Also in their full-width forms, which spreadsheets read alike
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
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
        writer.writerows({key: _cell(value) for key, value in each.items()} for each in records)
    return file.getvalue()


def _cell(value: object) -> object:
    """Return a text such that a spreadsheet shows it, and does not run it as a formula.

    https://owasp.org/www-community/attacks/CSV_Injection: texts that begin with = + - @ get an
    apostrophe. Control characters, among them tab and carriage return, are made visible first.

    Example:
        >>> _cell("=1+1"), _cell(-0.5)
        ("'=1+1", -0.5)
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


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
