"""Predictions as a CSV file, which is written while they are made."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from kd.deploy.prediction.predictions import Prediction
from kd.deploy.prediction.text_lines import TextLine
from kd.errors import UserError
from kd.io.atomic import replacing
from kd.io.csv_cell import csv_cell
from kd.io.own_files import is_link
from kd.io.regular_files import open_regular

_CLASS = ("class", "probability")
_SAMPLES = {False: ("image",), True: ("place", "text")}
_TEACHER = ("teacher_class", "teacher_probability", "differs")


def check_output(path: Path) -> None:
    """Refuse to replace anything but an earlier file of predictions.

    Raises:
        UserError: the path is that of another file, a folder or a link, or its suffix is not .csv.
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"output={path}: predictions are written as CSV; name a file FILE.csv")
    if is_link(path):
        raise UserError(f"output={path} is a symbolic link; name the file itself")
    if not path.exists():
        return
    known = [",".join([*first, *_CLASS]).encode() for first in _SAMPLES.values()]
    known.append(b"image,class,score,x1")  # see boxes_file
    with open_regular(path) as file:
        start = file.read(max(map(len, known)))
        if start and not start.startswith(tuple(known)):
            raise UserError(f"output={path} exists and holds no predictions; choose another name")


@contextmanager
def predictions_file(
    path: Path, class_names: Sequence[str], top: int, teacher: bool, texts: bool = False
) -> Iterator[Callable[[Prediction], None]]:
    """Yield a function that writes a prediction as a line.

    At the end of the block the file replaces `path`; if the block fails, `path` stays as it was.

    Args:
        path: of the file.
        class_names: in the order of the labels.
        top: number of classes for each image.
        teacher: whether the predictions have the teacher's class.
        texts: the samples are texts.

    Raises:
        UserError: the file cannot be written.
    """
    with writing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_SAMPLES[texts], *_header(top, teacher)])
        yield lambda prediction: writer.writerow(_record(prediction, class_names))


@contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """Provide a file that replaces `path` at the end of the block, if it does not fail.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with (
            replacing(path) as temporary,
            # Names of files may be no valid UTF-8.
            temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            yield file
    except OSError as error:
        raise UserError(
            f"output={path} cannot be written: {error.strerror or error}; choose another place"
        ) from None


def _header(top: int, teacher: bool) -> list[str]:
    further = [f"{name}_{place}" for place in range(2, top + 1) for name in _CLASS]
    return [*_CLASS, *further, *(_TEACHER if teacher else ())]


def _record(prediction: Prediction, class_names: Sequence[str]) -> list[object]:
    cells: list[object] = []
    teacher = [] if prediction.teacher is None else [prediction.teacher]
    for label, probability in (*prediction.classes, *teacher):
        cells += [class_names[label], probability]
    if teacher:
        cells.append("yes" if prediction.differs else "no")
    sample = prediction.sample
    first = [*sample] if isinstance(sample, TextLine) else [str(sample)]
    return [*(csv_cell(each, exact=True) for each in first), *map(csv_cell, cells)]
