"""Comparison of rows with their control arms: better than labels alone, than the controls, or not.

A row's own arms have its settings, apart from what a control changes: arms of another teacher or
optimizer are those of other rows. A row beats a control only if it is better than every one of its
arms of that name; the p-values of all these comparisons in a report are corrected together by
Holm's method.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from kd.reports.baseline import NO_DISTILLATION, plain_row
from kd.reports.groups import Group
from kd.reports.rows import Row
from kd.reports.settings import of_taps
from kd.reports.statistics import BETTER, WORSE, holm, paired_p, verdict_of

CANNOT_TELL = "cannot tell"
_SHUFFLED = "shuffled"  # the control without which nothing shows what the teacher knows
# What `untrained` lacks of the teacher, and `self` replaces with it.
_TRAINING = ("teacher.training", "teacher.checkpoint", "teacher.epoch", "teacher.weights")


def compare_with_controls(groups: Sequence[Group]) -> None:
    """Fill in `against_controls` of the rows in groups that have control arms."""
    rows = [(row, group) for group in groups if has_controls(group) for row in group.rows]
    pairs = [(row, other) for row, group in rows for other in _others(row, group)]
    verdicts = _verdicts(pairs)
    for row, group in rows:
        plain = plain_row(group.rows)
        if plain is not None and row is not plain:
            others = _others(row, group)
            found: dict[str, list[str | None]] = defaultdict(list)
            for other in others:
                found[_name(other)].append(verdicts.get((id(row), id(other))))
            row.against_controls = _words(found)


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
    arms = [other for other in group.rows if _is_arm(other) and other is not plain]
    return [plain, *(arm for arm in arms if _is_own(arm, row))]


def _is_arm(row: Row) -> bool:
    return row.control is not None or row.settings["method"] == NO_DISTILLATION


def _is_own(arm: Row, row: Row) -> bool:
    """Whether a control arm has a row's settings, apart from those that the control changes."""
    keys = row.settings.keys() | arm.settings.keys()
    return all(
        row.settings.get(key) == arm.settings.get(key) for key in keys if not _is_changed(key, arm)
    )


def _is_changed(key: str, arm: Row) -> bool:
    """Whether a control arm may differ in a setting from the row that it belongs to."""
    if key == "control":
        return True
    part = key.split(".", 1)[0]
    if arm.settings["method"] == NO_DISTILLATION:  # also labels that are smoothed
        no_teacher = part == "teacher" and arm.settings["teacher"] == "none"
        second_view = key.startswith("data.second")
        return part == "method" or no_teacher or second_view or of_taps(key)
    if arm.control == "self":
        return part == "teacher"
    return arm.control == "untrained" and key.startswith(_TRAINING)


def _differences(row: Row, other: Row) -> list[float]:
    key = row.figure.test
    common = sorted(row.runs.keys() & other.runs.keys())
    return [row.runs[s].result[key] - other.runs[s].result[key] for s in common]


def _name(other: Row) -> str:
    return "labels" if other.control in (None, "ce") else str(other.control)


def _words(verdicts: Mapping[str, Sequence[str | None]]) -> str:
    """Words for the verdicts beside the arms of each name: of `labels`, then of the controls."""
    labels = set(verdicts["labels"])
    if labels == {WORSE}:
        return "worse than labels alone"
    if labels != {BETTER}:
        return CANNOT_TELL
    controls = [name for name in verdicts if name != "labels"]
    not_beaten = [name for name in controls if set(verdicts[name]) != {BETTER}]
    if not_beaten:
        return f"better than labels alone, not than {', '.join(not_beaten)}"
    if _SHUFFLED in controls:
        return "better than labels and controls"
    if not controls:
        return "better than labels alone"
    return f"better than {', '.join(['labels', *controls[:-1]])} and {controls[-1]}"
