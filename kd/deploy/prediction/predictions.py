"""Predictions: the most probable classes of each image, with the teacher's class beside."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.deploy.prediction.predictor import Logits, Predictor
from kd.deploy.prediction.text_lines import TextLine
from kd.deploy.prediction.text_predictor import TextPredictor
from kd.errors import UserError


class Ranked(NamedTuple):
    """A class by its number, and its probability at temperature 1."""

    label: int
    probability: float


class Prediction(NamedTuple):
    """The classes of an image or a text.

    Attributes:
        sample: path of the image, or the text and its place.
        classes: the most probable ones, in this order.
        teacher: the most probable class of the teacher; None: it was not asked.
    """

    sample: Path | TextLine
    classes: list[Ranked]
    teacher: Ranked | None = None

    @property
    def differs(self) -> bool:
        """Whether the teacher has another class."""
        return self.teacher is not None and self.teacher.label != self.classes[0].label


def predict(
    predictor: Predictor | TextPredictor,
    batches: Iterable[tuple[Sequence[Path | TextLine], NDArray[Any]]],
    top: int,
) -> Iterator[Prediction]:
    """Classify images or texts, batch by batch.

    Args:
        predictor: the classifier.
        batches: files and their images [b, C, H, W], or texts and their token ids [b, L].
        top: number of classes for each sample; all, if there are fewer.

    Raises:
        UserError: the model gives a sample a logit that is no number.
    """
    for samples, inputs in batches:
        classes = ranked(_finite(predictor.logits(inputs), samples, predictor.source), top)
        if predictor.teacher is None:
            yield from map(Prediction, samples, classes)
            continue
        source = f"the teacher of {predictor.source}"
        logits = _finite(predictor.teacher(inputs), samples, source)
        teachers = [first for (first,) in ranked(logits, 1)]
        yield from map(Prediction, samples, classes, teachers)


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


def _finite(logits: Logits, samples: Sequence[Path | TextLine], source: str) -> Logits:
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        sample = samples[int(broken.argmax())]
        place = sample.place if isinstance(sample, TextLine) else sample
        raise UserError(f"{source} gives {place} logits that are no numbers")
    return logits
