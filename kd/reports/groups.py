"""Groups of comparable rows: the same data and the same student net."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kd.io.printable import printable
from kd.reports.labels import MAX_LABEL, shown
from kd.reports.rows import Row


@dataclass
class Group:
    """Rows on the same data with the same student, best first, and their baseline."""

    title: str
    rows: list[Row]
    baseline: Row

    @property
    def seeds(self) -> list[int]:
        """All seeds that any row has."""
        return sorted(set().union(*(row.runs for row in self.rows)))

    @property
    def teachers(self) -> dict[str, float]:
        """Test accuracies of the teachers, by name."""
        found = {str(row.settings["teacher"]): row.mean("teacher/test/acc") for row in self.rows}
        return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def by_student(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Split rows by data set and student net.

    Returns:
        Pairs of a title, such as `digits, resnet8, width=0.5`, and the rows.
    """
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        # The whole net, not its name alone: `student.net.width=0.5` is another student.
        net = sorted(((k, v) for k, v in row.settings.items() if k.startswith("student.")), key=str)
        groups[row.settings["data"], row.settings["student"], *net].append(row)
    keys = list(groups)
    titles = [", ".join([f"{k[0]}, {k[1]}", *_variant(k, keys)]) for k in keys]
    return [(printable(t, MAX_LABEL), own) for t, own in zip(titles, groups.values(), strict=True)]


def _variant(key: tuple[Any, ...], keys: Sequence[tuple[Any, ...]]) -> list[str]:
    """The settings in which a student differs from others of its name: `width=0.5`."""
    others = [set(other[2:]) for other in keys if other[1] == key[1]]
    return [
        f"{name.rsplit('.', 1)[-1]}={shown(value)}"
        for name, value in key[2:]
        if any((name, value) not in other for other in others)
    ]
