"""Comparison of an exported file with its student, over the whole test set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.deploy.exporting.description import Precision
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.student import Student
from kd.deploy.text_student import trimmed

# The most by which a logit may differ, as a share of the largest logit, or of 1 if all are smaller:
# float32 has 24 bits and float16 has 11, and errors of some tens of layers add up. Of int8 only the
# accuracy is bounded.
TOLERANCES: dict[Precision, float | None] = {"fp32": 1e-4, "fp16": 2e-2, "int8": None}
_BATCH = 256
_TEXTS = 64  # of a batch; of about the same length
Logits = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class Comparison:
    """Figures of a file beside those of its student.

    Attributes:
        images: test images (texts) that were compared.
        student_accuracy, accuracy: of the student and of the file, fractions.
        agreement: share of images on which both predict the same class.
        difference: largest absolute difference of a logit; NaN if one is not finite.
        tolerance: that the difference may have; None: any.
    """

    images: int
    student_accuracy: float
    accuracy: float
    agreement: float
    difference: float
    tolerance: float | None

    @property
    def drop(self) -> float:
        """Accuracy lost, in points; negative for a gain."""
        return 100 * (self.student_accuracy - self.accuracy)

    def problem(self, max_drop: float) -> str:
        """Return why the file is not good enough; empty if it is.

        Args:
            max_drop: the most accuracy that may be lost, in points.
        """
        if np.isnan(self.difference):
            return "some of its logits are not finite; its numbers exceed the precision"
        if self.tolerance is not None and self.difference > self.tolerance:
            return (
                f"its logits differ by up to {self.difference:.3g} from the student's, more than "
                f"{self.tolerance:.3g}"
            )
        if self.drop > max_drop:
            return (
                f"it loses {self.drop:.2f} points of test accuracy ({self.student_accuracy:.4f} → "
                f"{self.accuracy:.4f}), more than max_drop={max_drop:g}"
            )
        return ""


def compare(
    student: Student,
    file: ModelFile,
    images: Tensor,
    targets: Tensor,
    precision: Precision,
    pad_index: int | None = None,
) -> Comparison:
    """Run a student and its exported file on the same samples.

    Args:
        student: takes uint8 images, or token ids.
        file: loaded in its own runtime.
        images: uint8 test images [N, C, H, W], or token ids [N, L].
        targets: their labels [N].
        precision: of the file.
        pad_index: token that fills short texts; None: the samples are images.
    """
    ours = in_batches(student_logits(student), images, pad_index)
    theirs = in_batches(file.logits, images, pad_index)
    labels = targets.numpy()
    share, largest = TOLERANCES[precision], max(1.0, float(np.abs(ours).max()))
    finite = bool(np.isfinite(theirs).all())
    return Comparison(
        images=len(images),
        student_accuracy=float((ours.argmax(1) == labels).mean()),
        accuracy=float((theirs.argmax(1) == labels).mean()),
        agreement=float((ours.argmax(1) == theirs.argmax(1)).mean()),
        difference=float(np.abs(ours - theirs).max()) if finite else float("nan"),
        tolerance=None if share is None else share * largest,
    )


def student_logits(student: Student) -> Logits:
    """Return a student as a function of arrays."""

    def logits(images: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(student(torch.from_numpy(images)).numpy(), dtype=np.float32)

    return logits


def in_batches(logits: Logits, images: Tensor, pad_index: int | None = None) -> NDArray[np.float32]:
    """Return the logits [N, K] of all images [N, C, H, W], or of token ids [N, L].

    Texts are taken by length, and each batch ends with its longest text, so that a model is run on
    texts of many lengths.
    """
    if pad_index is None:
        return np.concatenate([logits(part.numpy()) for part in images.split(_BATCH)])
    order = (images != pad_index).sum(1).argsort(stable=True)
    parts = [trimmed(part, pad_index) for part in images[order].split(_TEXTS)]
    found = np.concatenate([logits(part.numpy()) for part in parts])
    return found[order.argsort().numpy()]


def accuracy(
    file: ModelFile, images: Tensor, targets: Tensor, pad_index: int | None = None
) -> float:
    """Return the accuracy of a file, a fraction."""
    found = in_batches(file.logits, images, pad_index).argmax(1)
    return float((found == targets.numpy()).mean())


def student_accuracy(student: Student, images: Tensor, targets: Tensor) -> float:
    """Return the accuracy of a student, a fraction."""
    found = in_batches(student_logits(student), images).argmax(1)
    return float((found == targets.numpy()).mean())
