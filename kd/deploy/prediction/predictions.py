"""Predictions: the most probable classes of each image, with the teacher's class beside."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.deploy.prediction.predictor import Images, Logits, Predictor
from kd.errors import UserError


class Ranked(NamedTuple):
    """A class by its number, and its probability at temperature 1."""

    label: int
    probability: float


class Prediction(NamedTuple):
    """The classes of an image.

    Attributes:
        image: its path.
        classes: the most probable ones, in this order.
        teacher: the most probable class of the teacher; None: it was not asked.
    """

    image: Path
    classes: list[Ranked]
    teacher: Ranked | None = None

    @property
    def differs(self) -> bool:
        """Whether the teacher has another class."""
        return self.teacher is not None and self.teacher.label != self.classes[0].label


def predict(
    predictor: Predictor, batches: Iterable[tuple[list[Path], Images]], top: int
) -> Iterator[Prediction]:
    """Classify images, batch by batch.

    Args:
        predictor: the classifier.
        batches: files and their images [b, C, H, W].
        top: number of classes for each image; all, if there are fewer.

    Raises:
        UserError: the model gives an image a logit that is no number.
    """
    for paths, images in batches:
        classes = ranked(_finite(predictor.logits(images), paths, predictor.source), top)
        if predictor.teacher is None:
            yield from map(Prediction, paths, classes)
            continue
        logits = _finite(predictor.teacher(images), paths, f"the teacher of {predictor.source}")
        teachers = [first for (first,) in ranked(logits, 1)]
        yield from map(Prediction, paths, classes, teachers)


def ranked(logits: Logits, top: int) -> list[list[Ranked]]:
    """Return the most probable classes of each image; of equal ones, the first.

    The probabilities are softmax(logits), whatever temperature the student was trained with.

    Example:
        >>> [[first, second]] = ranked(np.log(np.array([[0.25, 0.75]], np.float32)), 2)
        >>> first.label, round(first.probability, 6)
        (1, 0.75)
    """
    probabilities = _softmax(logits)
    labels = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    return [
        [Ranked(label, float(row[label])) for label in best]
        for row, best in zip(probabilities, labels.tolist(), strict=True)
    ]


def _softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _finite(logits: Logits, paths: list[Path], source: str) -> Logits:
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise UserError(f"{source} gives {paths[int(broken.argmax())]} logits that are no numbers")
    return logits
