"""Summary of predictions on the terminal: the first ones, and the samples by class."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from kd.deploy.prediction.predictions import Prediction, Ranked
from kd.deploy.prediction.text_lines import TextLine
from kd.io.printable import printable

_TEXT = 80  # characters of a text that the table shows
_CLASSES = 20  # rows of the counts; the other classes are added up in one more


class Summary:
    """Counts predictions, and keeps the first ones.

    Args:
        class_names: in the order of the labels.
        rows: number of predictions that are kept.
        teacher: whether they have the teacher's class.
        noun: for a sample.
    """

    def __init__(
        self, class_names: Sequence[str], rows: int, teacher: bool, noun: str = "image"
    ) -> None:
        self.class_names, self.rows, self.teacher = class_names, rows, teacher
        self.noun = noun
        self.first: list[Prediction] = []
        self.count = self.differing = 0
        self._students: Counter[int] = Counter()
        self._teachers: Counter[int] = Counter()

    def add(self, prediction: Prediction) -> None:
        """Take in a prediction."""
        self.count += 1
        if len(self.first) < self.rows:
            self.first.append(prediction)
        self._students[prediction.classes[0].label] += 1
        if prediction.teacher is not None:
            self._teachers[prediction.teacher.label] += 1
            self.differing += prediction.differs

    def first_predictions(self) -> Table:
        """Return the table of the first predictions."""
        more = self.count - len(self.first)
        caption = f"and {more} more" if more else None
        table = Table(title="predictions", caption=caption, caption_justify="left")
        for heading in (self.noun, "class", *(["teacher"] if self.teacher else [])):
            table.add_column(heading, overflow="fold")
        for each in self.first:
            sample = escape(printable(_shown(each.sample)))
            classes = ", ".join(map(self._named, each.classes))
            teacher = [] if each.teacher is None else [self._named(each.teacher)]
            style = "bold" if each.differs else None
            table.add_row(sample, classes, *teacher, style=style)
        return table

    def by_class(self) -> Table:
        """Return the table of the samples by predicted class, the most frequent first."""
        table = Table(title=f"{self.count} {self.noun}{'s' * (self.count != 1)} by class")
        table.add_column("class", overflow="fold")
        for heading in (f"{self.noun}s", *(["teacher"] if self.teacher else [])):
            table.add_column(heading, justify="right")
        counted = self._students.keys() | self._teachers.keys()
        order = sorted(counted, key=lambda label: (-self._students[label], label))
        for label in order[:_CLASSES]:
            self._count(table, self._name(label), [label])
        if others := order[_CLASSES:]:
            self._count(table, f"{len(others)} other classes", others)
        return table

    def difference(self) -> str:
        """Return the number of samples that teacher and student classify differently."""
        share, counts = self.differing / self.count, f"{self.differing} of {self.count}"
        return f"teacher and student differ on {counts} {self.noun}s ({share:.1%})"

    def _count(self, table: Table, name: str, labels: Sequence[int]) -> None:
        counts = [self._students, *([self._teachers] if self.teacher else [])]
        table.add_row(name, *(str(sum(each[label] for label in labels)) for each in counts))

    def _name(self, label: int) -> str:
        return escape(printable(self.class_names[label]))

    def _named(self, ranked: Ranked) -> str:
        return f"{self._name(ranked.label)} {ranked.probability:.1%}"


def _shown(sample: Path | TextLine) -> str:
    if not isinstance(sample, TextLine):
        return str(sample)
    text = " ".join(sample.text.split())
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"
