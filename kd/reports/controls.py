"""Comparison of rows with their control arms: better than labels alone, than the controls, or not.

A method counts as better than its controls only if it is better than every one of them; the
p-values of all these comparisons in a report are corrected together by Holm's method.
"""

from collections.abc import Sequence
from statistics import fmean

from kd.reports.baseline import plain_row
from kd.reports.groups import Group
from kd.reports.rows import Row
from kd.reports.statistics import BETTER, WORSE, holm, paired_p, verdict_of

LABELS_ONLY = ("ce", "smoothing")  # controls without a method of their own
CANNOT_TELL = "cannot tell"


def compare_with_controls(groups: Sequence[Group]) -> None:
    """Fill in `against_controls` of the rows in groups that have control arms."""
    rows = [(row, group) for group in groups if has_controls(group) for row in group.rows]
    pairs = [(row, other) for row, group in rows for other in _others(row, group)]
    verdicts = _verdicts(pairs)
    for row, group in rows:
        plain = plain_row(group.rows)
        if plain is not None and row is not plain:
            others = _others(row, group)
            row.against_controls = _words(
                {_name(other, plain): verdicts.get((id(row), id(other))) for other in others}
            )


def _verdicts(pairs: Sequence[tuple[Row, Row]]) -> dict[tuple[int, int], str]:
    """Test all pairs together; those with fewer than two common seeds have no verdict."""
    differences = {(id(row), id(other)): _differences(row, other) for row, other in pairs}
    tested = {pair: p for pair, found in differences.items() if (p := paired_p(found)) is not None}
    corrected = zip(tested, holm([*tested.values()]), strict=True)
    return {pair: verdict_of(fmean(differences[pair]), p) for pair, p in corrected}


def has_controls(group: Group) -> bool:
    """Return whether any row of a group is a control arm."""
    return any(row.control is not None for row in group.rows)


def _others(row: Row, group: Group) -> list[Row]:
    """The rows that a row is compared with: labels alone and, unless it is one, its controls."""
    plain = plain_row(group.rows)
    if plain is None or row is plain:
        return []
    if row.control is not None or row.settings["method"] == plain.settings["method"]:
        return [plain]
    arms = [other for other in group.rows if other.control is not None and other is not plain]
    return [plain, *(arm for arm in arms if arm.control in LABELS_ONLY or _same(row, arm))]


def _same(row: Row, arm: Row) -> bool:
    """Whether a control arm has a row's method and settings of it."""
    first, second = (
        {k: v for k, v in each.settings.items() if k == "method" or k.startswith("method.")}
        for each in (row, arm)
    )
    return first == second


def _differences(row: Row, other: Row) -> list[float]:
    key = row.figure.test
    common = sorted(row.runs.keys() & other.runs.keys())
    return [row.runs[s].result[key] - other.runs[s].result[key] for s in common]


def _name(other: Row, plain: Row) -> str:
    return "labels" if other is plain else str(other.control)


def _words(verdicts: dict[str, str | None]) -> str:
    """Words for the verdicts by name: of `labels`, then of each control."""
    labels = verdicts.pop("labels")
    if labels == WORSE:
        return "worse than labels alone"
    if labels != BETTER:
        return CANNOT_TELL
    not_beaten = [name for name, verdict in verdicts.items() if verdict != BETTER]
    if not verdicts:
        return "better than labels alone"
    if not not_beaten:
        return "better than labels and controls"
    return f"better than labels alone, not than {', '.join(not_beaten)}"
