"""Runs as rows: equal up to the seed; and rows by the data and the student they share."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from kd.reports.runs import Run, Unfinished
from kd.reports.settings import Settings, shown
from kd.reports.statistics import Interval, Paired, t_interval


@dataclass
class Row:
    """A configuration and its runs, one a seed.

    Attributes:
        label: what tells it from the other rows of its group.
        title: what tells it from all rows of the report.
        against: its comparison with the baseline; None without a common seed.
        gap: the share of the way from labels alone to the teacher.
    """

    settings: Settings
    runs: dict[int, Run]
    label: str = ""
    title: str = ""
    against: Paired | None = None
    gap: float | None = None

    def values(self, key: str) -> list[float]:
        """A figure of all runs in the order of their seeds; empty where one has none."""
        found = [self.runs[seed].result.get(key) for seed in sorted(self.runs)]
        return [float(v) for v in found if isinstance(v, int | float)] if None not in found else []

    def mean(self, key: str) -> float | None:
        values = self.values(key)
        return fmean(values) if values else None

    def deviation(self, key: str) -> float | None:
        """The standard deviation over seeds, with n - 1; None below two."""
        values = self.values(key)
        return stdev(values) if len(values) > 1 else None

    def interval(self, key: str = "test/acc") -> Interval | None:
        return t_interval(self.values(key))

    @property
    def accuracy(self) -> float:
        return fmean(self.values("test/acc"))

    @property
    def configuration(self) -> str:
        """A name for what it was told, the seed left out: 12 hexadecimal digits."""
        text = json.dumps(sorted(self.settings.items()), default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def make_rows(runs: Iterable[Run]) -> tuple[list[Row], list[Unfinished]]:
    """Rows in the order of their first runs, and runs that cannot be placed in one.

    Of runs that differ in nothing the latest counts. Runs without a config are known by their
    names alone: where these are equal and the hashes are not, the earlier are set aside.
    """
    rows: dict[frozenset[tuple[str, object]], Row] = {}
    aside = []
    for run in runs:
        row = rows.setdefault(frozenset(run.settings.items()), Row(run.settings, {}))
        earlier = row.runs.get(run.seed)
        if earlier is not None:
            aside.append(Unfinished("set aside", earlier.folder, _why_aside(earlier, run)))
        row.runs[run.seed] = run
    return list(rows.values()), aside


def _why_aside(earlier: Run, later: Run) -> str:
    if earlier.result.get("config_hash") == later.result.get("config_hash"):
        return f"the same run again: {later.folder}"
    same = f"the same names and seed as {later.folder}"
    return f"{same}, configured otherwise, and without .hydra/config.yaml to say how"


def by_student(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows on the same data with the same student net, and a title for each such group."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        net = sorted((k, v) for k, v in row.settings.items() if k.startswith("student."))
        groups[row.settings["data"], row.settings["student"], *net].append(row)
    keys = list(groups)
    return [(", ".join([f"{k[0]}, {k[1]}", *_telling(k, keys)]), own) for k, own in groups.items()]


def _telling(key: tuple[Any, ...], keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """What tells a student from others of the same name: `width=0.5`."""
    others = [set(other[2:]) for other in keys if other[1] == key[1]]
    return [
        f"{name.rsplit('.', 1)[-1]}={shown(value)}"
        for name, value in key[2:]
        if any((name, value) not in other for other in others)
    ]
