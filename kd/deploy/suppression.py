"""Suppression of duplicate boxes outside a net, with the net's own settings."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from kd.models.boxes import Detections, without_duplicates
from kd.models.detector import Detector


class Suppression(NamedTuple):
    """Settings by which a detector chooses among its boxes, as `kd.models.detector.Detector`."""

    score_threshold: float
    nms_iou: float
    max_detections: int

    @classmethod
    def of(cls, net: Detector) -> "Suppression":
        """Return the settings of a net."""
        return cls(net.score_threshold, net.nms_iou, net.max_detections)

    @classmethod
    def described(cls, about: Mapping[str, Any]) -> "Suppression":
        """Return the settings in the description of an exported file."""
        return cls(*(about[name] for name in cls._fields))

    def __call__(self, boxes: Tensor, scores: Tensor) -> list[Detections]:
        """Return the detections of each image, by the function that training uses.

        Args:
            boxes: [B, N, 4].
            scores: [B, N, K].
        """
        return [
            without_duplicates(
                *pair,
                threshold=self.score_threshold,
                max_iou=self.nms_iou,
                most=self.max_detections,
            )
            for pair in zip(boxes, scores, strict=True)
        ]
