"""Summary of boxes on the terminal: the first images, and the boxes by class."""

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from kd.deploy.prediction.box_predictor import FoundBoxes
from kd.io.printable import printable

_CLASSES, _BOXES = 20, 8  # rows of the counts, and boxes of an image, that are shown


class BoxSummary:
    """Counts boxes, and keeps the first images.

    Args:
        class_names: in the order of the labels.
        rows: number of images that are kept.
    """

    def __init__(self, class_names: Sequence[str], rows: int) -> None:
        self.class_names, self.rows = class_names, rows
        self.first: list[FoundBoxes] = []
        self.count = self.empty = 0
        self._labels: Counter[int] = Counter()

    def add(self, found: FoundBoxes) -> None:
        """Take in the boxes of an image."""
        self.count += 1
        self.empty += not found.boxes
        if len(self.first) < self.rows:
            self.first.append(found)
        self._labels.update(box.label for box in found.boxes)

    def first_predictions(self) -> Table:
        """Return the table of the first images."""
        more = self.count - len(self.first)
        table = Table(title="boxes", caption=f"and {more} more" if more else None)
        for heading in ("image", "found"):
            table.add_column(heading, overflow="fold")
        for each in self.first:
            named = [f"{self._name(box.label)} {box.score:.1%}" for box in each.boxes[:_BOXES]]
            named += ["…"] * (len(each.boxes) > _BOXES)
            table.add_row(escape(printable(each.image)), ", ".join(named) or "nothing")
        return table

    def by_class(self) -> Table:
        """Return the table of the boxes by class, the most frequent first."""
        total = sum(self._labels.values())
        title = f"{total} box{'es' * (total != 1)} in {self.count} image{'s' * (self.count != 1)}"
        caption = f"images without a box: {self.empty}" if self.empty else None
        table = Table(title=title, caption=caption, min_width=len(title) + 2)
        table.add_column("class", overflow="fold")
        table.add_column("boxes", justify="right")
        order = sorted(self._labels, key=lambda label: (-self._labels[label], label))
        for label in order[:_CLASSES]:
            table.add_row(self._name(label), str(self._labels[label]))
        if others := order[_CLASSES:]:
            rest = sum(self._labels[label] for label in others)
            table.add_row(f"{len(others)} other classes", str(rest))
        return table

    def _name(self, label: int) -> str:
        return escape(printable(self.class_names[label]))
