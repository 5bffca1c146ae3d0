"""The interface of detectors.

A detector's forward pass returns one tensor of raw predictions [B, N, D], so that caches, taps and
exported files treat it as they treat logits; everything else is computed from that tensor.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from kd.models.boxes import Detections, without_duplicates

CENTRE_RADIUS = 1.5  # in strides; places further from the centre of an object do not learn it


class Detector(nn.Module, ABC):
    """A net that finds boxes of K classes in images of one size.

    Args:
        image_size: height and width of the images.
        num_classes: K.
        score_threshold: smallest score of a detection.
        nms_iou: overlap above which the weaker of two boxes of a class is a duplicate.
        max_detections: most boxes of an image.

    Attributes:
        two_stage: whether predictions belong to no fixed place of the image.
        grid: place of each of the N predictions: centre x, centre y and stride in pixels, and its
            number among the predictions of that place [N, 4]; None: they belong to no fixed place,
            as those of a two-stage detector.
    """

    task: ClassVar[str] = "detection"
    two_stage: ClassVar[bool] = False
    grid: Tensor | None

    def __init__(
        self,
        image_size: int,
        num_classes: int,
        *,
        score_threshold: float = 0.05,
        nms_iou: float = 0.6,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        for name, value in {"score_threshold": score_threshold, "nms_iou": nms_iou}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value!r}")
        if max_detections < 1:
            raise ValueError(f"max_detections must be ≥ 1, got {max_detections!r}")
        self.image_size, self.num_classes = image_size, num_classes
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.max_detections = max_detections
        self.register_buffer("grid", None, persistent=False)

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, C, S, S] -> raw predictions [B, N, D]."""

    @abstractmethod
    def loss(self, predictions: Tensor, target: Tensor) -> Tensor:
        """Compute the detector's own training loss, a scalar.

        Args:
            predictions: [B, N, D] of `forward`.
            target: rows (class, x1, y1, x2, y2) [B, M, 5]; class −1 is padding.
        """

    @abstractmethod
    def decode(self, predictions: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, N, 4] in pixels and class logits [B, N, K], in float32.

        The sigmoid of a class logit is the probability that the place shows an object of the class.
        """

    def scores(self, predictions: Tensor) -> Tensor:
        """Scores [B, N, K] in [0, 1] that rank detections."""
        return self.decode(predictions)[1].sigmoid()

    def accepts(self, boxes: Tensor) -> Tensor:
        """Whether prediction i is one that learns an object of box i: [B, N, 4] -> bool [B, N].

        Places in the box do that are at most 1.5 strides from its centre along each axis, as FCOS
        chooses them; of a net with anchors those whose anchor fits the box.
        """
        if self.grid is None:
            raise NotImplementedError(f"{type(self).__name__} has no grid")
        places, radius = self.grid[:, :2], CENTRE_RADIUS * self.grid[:, 2]
        inside = ((places > boxes[..., :2]) & (places < boxes[..., 2:])).all(-1)
        far = (places - (boxes[..., :2] + boxes[..., 2:]) / 2).abs().amax(-1)
        return inside & (far < radius)

    @torch.no_grad()
    def detections(self, predictions: Tensor) -> list[Detections]:
        """Detections of each image, the best first: boxes within the image, without duplicates."""
        boxes = self.decode(predictions)[0].clamp(0, self.image_size)
        scores = self.scores(predictions)
        return [
            without_duplicates(
                *pair,
                threshold=self.score_threshold,
                max_iou=self.nms_iou,
                most=self.max_detections,
            )
            for pair in zip(boxes, scores, strict=True)
        ]


def is_detector(net: nn.Module) -> bool:
    """Return whether a net, or the one that torch.compile wraps, is a detector."""
    return isinstance(getattr(net, "_orig_mod", net), Detector)


def square_grid(image_size: int, stride: int) -> Tensor:
    """Places of a map of ⌈image_size / stride⌉² cells, row by row: [N, 4], see `Detector.grid`.

    Cell i is at pixel i · stride: with padded 3×3 convolutions of stride 2 it sees as much on the
    left as on the right of that pixel. torchvision's anchors are there too.

    Example:
        >>> square_grid(16, 8)[:2].tolist()
        [[0.0, 0.0, 8.0, 0.0], [8.0, 0.0, 8.0, 0.0]]
    """
    axis = torch.arange(-(-image_size // stride)) * float(stride)
    y, x = (axis.flatten() for axis in torch.meshgrid(axis, axis, indexing="ij"))
    return torch.stack([x, y, torch.full_like(x, stride), torch.zeros_like(x)], dim=1)
