"""Runs grouped into rows: one row is one configuration, with one run for each seed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, stdev

from kd.config.identity import content_hash
from kd.io.run_folder import RunFolder
from kd.io.task_figures import TaskFigure, task_figure
from kd.reports.origin import described, experiment
from kd.reports.runs import Excluded, Run
from kd.reports.settings import Settings
from kd.reports.statistics import Interval, Paired, t_interval
from kd.reports.uncertainty import Uncertainty


@dataclass
class Row:
    """A configuration and its runs.

    Attributes:
        settings: flat settings without the seed, equal in all runs.
        runs: by seed.
        label: the settings in which it differs from the other rows of its group.
        title: the settings in which it differs from all rows of the report.
        comparison: with the baseline; None without a common seed.
        gap: recovered fraction of the gap between cross-entropy alone and the teacher.
        against_controls: verdict beside the control arms of its group; None: there are none.
        uncertainty: what its numbers can and cannot tell.
    """

    settings: Settings
    runs: dict[int, Run]
    label: str = ""
    title: str = ""
    comparison: Paired | None = None
    gap: float | None = None
    against_controls: str | None = None
    uncertainty: Uncertainty = field(default_factory=Uncertainty)

    def values(self, key: str) -> list[float]:
        """Return a number of result.json for all runs, in the order of seeds; [] if any lacks it.

        A mean over only some of the seeds would not be comparable with other rows.
        """
        found = [self.runs[seed].result.get(key) for seed in sorted(self.runs)]
        return [float(v) for v in found if isinstance(v, int | float)] if None not in found else []

    def mean(self, key: str) -> float | None:
        """Return the mean over seeds; None if any run lacks the key."""
        values = self.values(key)
        return fmean(values) if values else None

    def deviation(self, key: str) -> float | None:
        """Return the sample standard deviation over seeds (n - 1); None below two."""
        values = self.values(key)
        return stdev(values) if len(values) > 1 else None

    def interval(self, key: str | None = None) -> Interval | None:
        """Return the 95 % confidence interval of a mean over seeds; None: of the test figure."""
        return t_interval(self.values(key or self.figure.test))

    @property
    def figure(self) -> TaskFigure:
        """The figure by which the row is judged: that of its task."""
        return task_figure(next(iter(self.runs.values())).result)

    @property
    def score(self) -> float:
        """Mean test figure over seeds, a fraction: accuracy, or mAP of detectors."""
        return fmean(self.values(self.figure.test))

    @property
    def control(self) -> str | None:
        """The control arm that the row is, see `kd.training.controls`; None: it is none."""
        found = self.settings.get("control")
        return None if found is None else str(found)

    @property
    def configuration(self) -> str:
        """Hash of the settings without the seed: 12 hexadecimal digits."""
        return content_hash(sorted(self.settings.items()))


def make_rows(runs: Iterable[Run]) -> tuple[list[Row], list[Excluded]]:
    """Group runs by their settings, data, teacher's recipe, and settings changed on resuming.

    If several runs have the same of all these and the same seed, the latest counts. Runs without a
    recorded config are identified by the names of method, teacher, student, mode and data alone.

    Returns:
        Rows in the order of their first runs, and the runs that a later one replaced.
    """
    rows: dict[frozenset[tuple[str, object]], dict[str, Row]] = {}
    replaced = []
    for run in runs:  # oldest first
        # Hydra's order of keys depends on the command line, so settings are compared as a set.
        equal = rows.setdefault(frozenset(run.settings.items()), {})
        row = equal.setdefault(experiment(run.result, run.folder), Row(run.settings, {}))
        earlier = row.runs.get(run.seed)
        if earlier is not None:
            replaced.append(Excluded("left out", earlier.folder, _reason(earlier, run)))
        row.runs[run.seed] = run
    return [row for equal in rows.values() for row in _told_apart(list(equal.values()))], replaced


def _told_apart(rows: list[Row]) -> list[Row]:
    """Add to rows of equal settings what else distinguishes them."""
    for row in rows if len(rows) > 1 else ():
        first = next(iter(row.runs.values()))
        row.settings = {**row.settings, **described(first.result, first.folder)}
    return rows


def _reason(earlier: Run, later: Run) -> str:
    if earlier.result.get("config_hash") == later.result.get("config_hash"):
        return f"repeated by the later run {later.folder}"
    if "recipe_hash" in earlier.result:
        return f"repeated by the later run {later.folder}, with another teacher of the same recipe"
    recorded = all(RunFolder(run.folder).config.is_file() for run in (earlier, later))
    reason = (
        "the settings are equal, so the data, the teacher's weights or the version differ"
        if recorded
        else "without .hydra/config.yaml in both folders they cannot be distinguished"
    )
    return f"same names and seed as {later.folder} but another config_hash; {reason}"
