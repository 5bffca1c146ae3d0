"""Groups of comparable rows: the same task, the same data and the same student net."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kd.io.printable import printable
from kd.io.task_figures import TaskFigure
from kd.reports.labels import MAX_LABEL, shown
from kd.reports.rows import Row
from kd.reports.settings import of_taps


@dataclass
class Group:
    """Rows on the same data with the same student, best first, and their baseline."""

    title: str
    rows: list[Row]
    baseline: Row

    @property
    def figure(self) -> TaskFigure:
        """The figure by which the rows are judged."""
        return self.baseline.figure

    @property
    def seeds(self) -> list[int]:
        """All seeds that any row has."""
        return sorted(set().union(*(row.runs for row in self.rows)))

    @property
    def teachers(self) -> dict[str, float]:
        """Test figures of the teachers, by name."""
        found = {
            str(row.settings["teacher"]): row.mean(f"teacher/{row.figure.test}")
            for row in self.rows
        }
        return {name: score for name, score in found.items() if score is not None}


def by_student(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Split rows by data set and student net.

    Returns:
        Pairs of a title, such as `digits, resnet8, width=0.5`, and the rows.
    """
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    several = _replaced_data(rows)
    for row in rows:
        # The whole net, not its name alone: `student.net.width=0.5` is another student. What a
        # method reads of it is no part of it: the baseline reads nothing.
        own = ((k, v) for k, v in row.settings.items() if k.startswith("student."))
        net = sorted((pair for pair in own if not of_taps(pair[0])), key=str)
        data = [("data.fingerprint", _fingerprint(row))] if row.settings["data"] in several else []
        task = [] if row.figure.key == "acc" else [("task", row.figure.words)]
        groups[row.settings["data"], row.settings["student"], *net, *data, *task].append(row)
    keys = list(groups)
    titles = [", ".join([f"{k[0]}, {k[1]}", *_variant(k, keys)]) for k in keys]
    return [(printable(t, MAX_LABEL), own) for t, own in zip(titles, groups.values(), strict=True)]


def _fingerprint(row: Row) -> str:
    """The fingerprint of a row's data; empty if it is not recorded or unknown.

    Of rows whose seeds have splits of their own (`data.split_seed=${seed}`) it would be that of one
    seed, and so it is empty as well.
    """
    if "${" in str(row.settings.get("data.split_seed")):
        return ""
    return str(next(iter(row.runs.values())).result.get("data/fingerprint") or "")


def _replaced_data(rows: Sequence[Row]) -> set[str]:
    """Names of data of which runs with equal settings have seen different versions."""
    found: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in rows:
        # Other settings of the data explain another fingerprint: a split, say, or a normalisation.
        own = ((k, v) for k, v in row.settings.items() if k.startswith("data."))
        settings = sorted((pair for pair in own if pair[0] != "data.fingerprint"), key=str)
        if fingerprint := _fingerprint(row):
            found[row.settings["data"], *settings].add(fingerprint)
    return {key[0] for key, fingerprints in found.items() if len(fingerprints) > 1}


def _variant(key: tuple[Any, ...], keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """The settings in which a student differs from others of its name: `width=0.5`."""
    others = [set(other[2:]) for other in keys if other[1] == key[1]]
    return [
        f"{name.rsplit('.', 1)[-1]}={shown(value)}"
        for name, value in key[2:]
        if any((name, value) not in other for other in others)
    ]
