"""The leaderboard of a report: groups of rows, compared with their baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from kd.io.task_figures import TaskFigure
from kd.reports.assess import Question, assess
from kd.reports.baseline import NO_DISTILLATION, check_baseline, choose_baseline
from kd.reports.controls import compare_with_controls
from kd.reports.find import Found
from kd.reports.groups import Group, by_student
from kd.reports.labels import labels
from kd.reports.rows import Row, make_rows
from kd.reports.runs import Excluded, Run
from kd.reports.statistics import compare
from kd.reports.trials import Trial


@dataclass
class Leaderboard:
    """All groups, the folders that contribute no numbers, and the number of teacher runs.

    Attributes:
        detect: the difference that the report was asked to tell, a fraction; None: none.
        trials: of searches, which are in no row.
    """

    groups: list[Group]
    excluded: list[Excluded] = field(default_factory=list)
    teachers: int = 0
    detect: float | None = None
    trials: list[Trial] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """The rows of all groups."""
        return [row for group in self.groups for row in group.rows]

    @property
    def figures(self) -> list[TaskFigure]:
        """The figures by which the groups are judged, without repetition."""
        return sorted({group.figure for group in self.groups})

    @property
    def runs(self) -> list[Run]:
        """The runs of all rows."""
        return [row.runs[seed] for row in self.rows for seed in sorted(row.runs)]


def build_leaderboard(
    found: Found, baseline: str | None, samples: int, seed: int, detect: float | None = None
) -> Leaderboard:
    """Group runs into rows and compare each row with its group's baseline.

    Args:
        found: the runs.
        baseline: a method, or comma-separated `key=value` settings; None selects `ce`.
        samples: number of bootstrap resamples.
        seed: of the bootstrap.
        detect: a difference, as a fraction: how many seeds tell it? None: not asked.

    Raises:
        UserError: no row, or several of a group, match the baseline.
    """
    rows, replaced = make_rows(found.runs)
    # Titles are unique in the report (CSV, Pareto figure); labels, shorter, in a group's table.
    for row, title in zip(rows, labels([row.settings for row in rows]), strict=True):
        row.title = title
    groups = [_group(title, own, baseline) for title, own in by_student(rows)]
    check_baseline(rows, baseline)  # once the titles, which the message lists, are known
    _compare(groups, samples, seed)
    _assess(groups, samples, seed, detect)
    compare_with_controls(groups)
    return Leaderboard(groups, [*found.excluded, *replaced], found.teachers, detect, found.trials)


def _group(title: str, rows: list[Row], baseline: str | None) -> Group:
    for row, label in zip(rows, labels([row.settings for row in rows]), strict=True):
        row.label = label
    best_first = sorted(rows, key=lambda row: -row.score)
    return Group(title, best_first, choose_baseline(rows, baseline))


def _compare(groups: Sequence[Group], samples: int, seed: int) -> None:
    """Fill in every row's comparison and gap; Holm's correction spans all groups."""
    rows, differences = [], []
    for group in groups:
        for row in group.rows:
            row.gap = _gap(row, group)
            common = sorted(row.runs.keys() & group.baseline.runs.keys())
            # Without a common seed nothing is tested, and nothing counts for the correction.
            if row is not group.baseline and common:
                baseline = group.baseline.runs
                pairs = [(row.runs[s].result, baseline[s].result) for s in common]
                rows.append(row)
                key = group.figure.test
                differences.append([ours[key] - base[key] for ours, base in pairs])
    for row, paired in zip(rows, compare(differences, samples, seed), strict=True):
        row.comparison = paired


def _assess(groups: Sequence[Group], samples: int, seed: int, detect: float | None) -> None:
    """Fill in what every row's numbers can and cannot tell."""
    rows = [(row, group.baseline) for group in groups for row in group.rows]
    tested = [row for row, _ in rows if row.comparison and row.comparison.p is not None]
    question = Question(detect, samples, seed, len(tested))
    for row, baseline in rows:
        row.uncertainty = assess(row, baseline, question)


def _gap(row: Row, group: Group) -> float | None:
    """(row − ce) / (teacher − ce) over common seeds; None without a ce row or a better teacher."""
    plain, teacher = choose_baseline(group.rows), row.mean(f"teacher/{row.figure.test}")
    common = row.runs.keys() & plain.runs.keys()
    if row is plain or plain.settings["method"] != NO_DISTILLATION or teacher is None or not common:
        return None
    ours, theirs = (fmean(r.runs[s].result[r.figure.test] for s in common) for r in (row, plain))
    # A teacher no better than ce leaves no gap: the ratio would change its sign or explode.
    return (ours - theirs) / (teacher - theirs) if teacher > theirs else None
