"""Boxes as a CSV file, which is written while they are found."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kd.deploy.prediction.box_predictor import FoundBoxes
from kd.deploy.prediction.predictions_file import writing
from kd.io.csv_cell import csv_cell

COLUMNS = ("image", "class", "score", "x1", "y1", "x2", "y2")


@contextmanager
def boxes_file(path: Path, class_names: Sequence[str]) -> Iterator[Callable[[FoundBoxes], None]]:
    """Yield a function that writes the boxes of an image, a line for each.

    At the end of the block the file replaces `path`; if the block fails, `path` stays as it was.

    Args:
        path: of the file.
        class_names: in the order of the labels.

    Raises:
        UserError: the file cannot be written.
    """
    with writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def write(found: FoundBoxes) -> None:
            for box in found.boxes:
                name = csv_cell(str(found.image), exact=True)
                cells = (class_names[box.label], box.score, *(round(x, 3) for x in box.corners))
                writer.writerow([name, *map(csv_cell, cells)])

        yield write
