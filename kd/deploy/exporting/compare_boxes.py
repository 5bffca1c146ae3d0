"""Comparison of an exported detector with its student, over the whole test set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.deploy.box_student import BoxStudent
from kd.deploy.suppression import Suppression
from kd.tasks.detection import DetectionFigures

TOLERANCE = 1e-3  # of a coordinate in pixels, and of a score
_BATCH = 64
Boxes = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], tuple[Boxes, Boxes]]


@dataclass(frozen=True)
class BoxComparison:
    """Figures of a file beside those of its student.

    Attributes:
        images: test images that were compared.
        student_map, map: mean average precision of the student and of the file, fractions.
        box_difference, score_difference: largest absolute difference of a coordinate in pixels and
            of a score, over all boxes before duplicates are dropped; NaN if one is not finite.
        tolerance: that each difference may have.
    """

    images: int
    student_map: float
    map: float
    box_difference: float
    score_difference: float
    tolerance: float = TOLERANCE

    @property
    def drop(self) -> float:
        """mAP lost, in points; negative for a gain."""
        return 100 * (self.student_map - self.map)

    def problem(self, max_drop: float) -> str:
        """Return why the file is not good enough; empty if it is.

        Args:
            max_drop: the most mAP that may be lost, in points.
        """
        worst = max(self.box_difference, self.score_difference)
        if np.isnan(worst):
            return "some of its boxes or scores are not finite"
        if worst > self.tolerance:
            return (
                f"its boxes differ by up to {self.box_difference:.3g} pixels and its scores by "
                f"{self.score_difference:.3g} from the student's, more than {self.tolerance:g}"
            )
        if self.drop > max_drop:
            return f"it loses {self.drop:.2f} points of mAP, more than max_drop={max_drop:g}"
        return ""


def compare_boxes(student: BoxStudent, run: Run, images: Tensor, targets: Tensor) -> BoxComparison:
    """Run a student and its exported file on the same images.

    Args:
        student: takes uint8 images.
        run: the file in its own runtime: images -> boxes and scores.
        images: uint8 test images [N, C, S, S].
        targets: rows (class, x1, y1, x2, y2) [N, M, 5]; class −1 is padding.
    """
    suppression = Suppression.of(student.detector)
    own, found = DetectionFigures(), DetectionFigures()
    worst = np.zeros(2)
    for part, target in zip(images.split(_BATCH), targets.split(_BATCH), strict=True):
        ours = student.decoded(part)
        theirs = tuple(map(torch.from_numpy, run(part.numpy())))
        own.update(suppression(*ours), target)
        found.update(suppression(*theirs), target)
        pairs = zip(ours, theirs, strict=True)
        worst = np.maximum(worst, [float((a - b).abs().max()) for a, b in pairs])
    return BoxComparison(len(images), _map(own), _map(found), *map(float, worst))


def _map(figures: DetectionFigures) -> float:
    values: Any = figures.compute()
    return float(values["map"])
