"""Object detection: boxes of classes in images."""

import logging
from importlib.util import find_spec
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from kd.errors import UserError
from kd.metrics import Figures
from kd.models.boxes import Detections, labelled
from kd.tasks.base import Task

_BACKEND = "faster_coco_eval"


class DetectionFigures(Figures):
    """Mean average precision of detections over a split, as COCO defines it.

    - `map`: mean over classes and over the IoU thresholds 0.5, 0.55 … 0.95, in [0, 1].
    - `map50`: mean over classes at IoU 0.5.

    Boxes are compared on the CPU, by faster-coco-eval: a few hundred images take a second.

    Raises:
        UserError: faster-coco-eval is not installed.

    Example:
        >>> figures = DetectionFigures()
        >>> box = torch.tensor([[2.0, 2.0, 12.0, 12.0]])
        >>> one = {"boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([3])}
        >>> figures.update([one], torch.tensor([[[3.0, 2.0, 2.0, 12.0, 11.0]]]))
        >>> {name: round(value.item(), 3) for name, value in figures.compute().items()}
        {'map': 0.9, 'map50': 1.0}
    """

    def __init__(self) -> None:
        super().__init__()
        if find_spec(_BACKEND) is None:
            raise UserError(
                "mAP needs faster-coco-eval, which is not installed: pip install -e '.[detection]'"
            )
        from torchmetrics.detection import MeanAveragePrecision

        logging.getLogger(_BACKEND).setLevel(logging.WARNING)  # it tells every step
        self.precision = MeanAveragePrecision(backend="faster_coco_eval")
        self.precision.warn_on_many_detections = False

    def update(
        self, answers: list[Detections], target: Tensor, teacher: Tensor | None = None
    ) -> None:
        """Add a batch.

        Args:
            answers: detections of each of B images.
            target: rows (class, x1, y1, x2, y2) [B, M, 5]; class −1 is padding.
            teacher: unused.
        """
        found: Any = [{k: v.cpu() for k, v in cast(Any, image).items()} for image in answers]
        truth: Any = labelled(target.cpu())
        self.precision.update(found, truth)

    def compute(self) -> dict[str, Tensor]:
        if not self.precision.update_called:
            return {}
        figures = self.precision.compute()
        self.precision.reset()
        # −1 where no image has a box; 0 is the figure of a net that finds nothing
        return {"map": figures["map"].clamp(min=0), "map50": figures["map_50"].clamp(min=0)}


class Detection(Task):
    """Predictions [B, N, D] of images [B, C, S, S], selected by validation mAP."""

    name, title, sample = "detection", "object detection", "image"
    student, method = "tiny_detector", "det_kd"
    classifies = False
    label_loss: ClassVar = {"_target_": "kd.objectives.detection_loss.DetectionLoss"}

    def evaluation(self, num_classes: int, closely: bool = False) -> DetectionFigures:
        return DetectionFigures()

    @torch.no_grad()
    def answers(self, net: nn.Module, outputs: Tensor) -> list[Detections]:
        """Detections of each image; `net` is a `kd.models.detector.Detector`."""
        detector: Any = net
        found: list[Detections] = detector.detections(outputs)
        return found
