"""Rows by data and student, each beside its group's baseline, and judged together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from kd.errors import UserError
from kd.reports.rows import Row, by_student, make_rows
from kd.reports.runs import Found, Run, Unfinished
from kd.reports.settings import Settings, labels, shown
from kd.reports.statistics import compare


@dataclass
class Group:
    """The rows on the same data with the same student, best first, and whom they are beside."""

    title: str
    rows: list[Row]
    baseline: Row

    @property
    def seeds(self) -> list[int]:
        return sorted(set().union(*(row.runs for row in self.rows)))

    @property
    def teachers(self) -> dict[str, float]:
        """The teachers' test accuracies, by name."""
        found = {str(row.settings["teacher"]): row.mean("teacher/test/acc") for row in self.rows}
        return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


@dataclass
class Leaderboard:
    """All groups, and what is no number."""

    groups: list[Group]
    unfinished: list[Unfinished] = field(default_factory=list)
    teachers: int = 0

    @property
    def rows(self) -> list[Row]:
        return [row for group in self.groups for row in group.rows]

    @property
    def runs(self) -> list[Run]:
        return [row.runs[seed] for row in self.rows for seed in sorted(row.runs)]


def build_leaderboard(found: Found, baseline: str | None, samples: int, seed: int) -> Leaderboard:
    """Sort runs into rows and judge these.

    Args:
        found: the runs.
        baseline: a method's name, or `key=value` settings with commas between; None: `ce`.
        samples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        UserError: no row is such a baseline.
    """
    rows, aside = make_rows(found.runs)
    for row, title in zip(rows, labels([row.settings for row in rows]), strict=True):
        row.title = title
    groups = [_group(title, own, baseline) for title, own in by_student(rows)]
    if baseline is not None and not any(has_scheduled_need(row, baseline) for row in rows):
        there = "; ".join(sorted({row.title for row in rows})) or "none"
        raise UserError(f"baseline={baseline}: no row is that; there are: {there}")
    _judge(groups, samples, seed)
    return Leaderboard(groups, [*found.unfinished, *aside], found.teachers)


def _group(title: str, rows: list[Row], baseline: str | None) -> Group:
    for row, label in zip(rows, labels([row.settings for row in rows]), strict=True):
        row.label = label
    return Group(title, sorted(rows, key=lambda row: -row.accuracy), _baseline(rows, baseline))


def _baseline(rows: Sequence[Row], asked: str | None) -> Row:
    """The row that was asked for, else labels alone, else the first; of several, most seeds."""
    fitting = [row for row in rows if asked is not None and has_scheduled_need(row, asked)]
    if len(fitting) > 1:
        several = "; ".join(row.label for row in fitting)
        raise UserError(f"baseline={asked}: several rows are that, say more: {several}")
    if fitting:
        return fitting[0]
    labels_alone = [row for row in rows if row.settings["method"] == "ce"]
    return max(labels_alone, key=lambda row: len(row.runs)) if labels_alone else rows[0]


def has_scheduled_need(row: Row, asked: str) -> bool:
    """Whether a row is `ce`, or all of `method=kd,temperature=4`; the last words of a key do."""
    words = [word.strip() for word in asked.split(",")]
    return all(_has(row.settings, word) for word in words)


def _has(settings: Settings, word: str) -> bool:
    key, equals, value = word.partition("=")
    if not equals:
        return bool(settings["method"] == word)
    fitting = [v for k, v in settings.items() if k == key or k.endswith(f".{key}")]
    return any(value in (str(v), shown(v)) or _number(v) == _number(value) for v in fitting)


def _number(value: object) -> object:
    try:
        return float(str(value))
    except ValueError:
        return value


def _judge(groups: Sequence[Group], samples: int, seed: int) -> None:
    """Compare each row with its group's baseline, over the seeds both have; all at once."""
    rows, differences = [], []
    for group in groups:
        for row in group.rows:
            row.gap = _gap(row, group)
            common = sorted(row.runs.keys() & group.baseline.runs.keys())
            if row is not group.baseline and common:
                theirs = group.baseline.runs
                pairs = [(row.runs[s].result, theirs[s].result) for s in common]
                rows.append(row)
                differences.append([ours["test/acc"] - base["test/acc"] for ours, base in pairs])
    for row, paired in zip(rows, compare(differences, samples, seed), strict=True):
        row.against = paired


def _gap(row: Row, group: Group) -> float | None:
    """The share of the way from labels alone to the teacher; None where there is no such way."""
    alone, teacher = _baseline(group.rows, None), row.mean("teacher/test/acc")
    common = row.runs.keys() & alone.runs.keys()
    if row is alone or alone.settings["method"] != "ce" or teacher is None or not common:
        return None
    ours, theirs = (fmean(r.runs[s].result["test/acc"] for s in common) for r in (row, alone))
    return (ours - theirs) / (teacher - theirs) if teacher > theirs else None
