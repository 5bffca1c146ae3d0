"""A loaded student that finds boxes in images."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from kd.deploy.student import Student
from kd.errors import UserError
from kd.models.boxes import Detections
from kd.models.detector import Detector


class BoxStudent(Student):
    """A trained detector and what is known about it, in eval mode at first.

    Its forward pass returns raw predictions [B, N, D] of images, as `Student` takes them;
    `detections` returns what they mean.

    Example:
        >>> student = kd.load("outputs/runs/mine")  # doctest: +SKIP
        >>> student.detections(images_uint8)[0]["boxes"].shape  # doctest: +SKIP
        torch.Size([3, 4])
    """

    task_name: ClassVar[str] = "detection"

    @property
    def detector(self) -> Detector:
        """The plain net."""
        return cast(Detector, self.net)

    @torch.no_grad()
    def detections(self, images: Any) -> list[Detections]:
        """Return the boxes of each image, without duplicates, the best first.

        Args:
            images: uint8 or normalised floating point [B, C, S, S].

        Returns:
            For each image `boxes` (x1, y1, x2, y2) in its pixels [n, 4], `scores` [n] in [0, 1] and
            `labels` [n], places in `class_names`.

        Raises:
            UserError: images of another kind or size.
        """
        return self.detector.detections(self(images))

    def forward(self, images: Any) -> Tensor:
        """Return the raw predictions [B, N, D] of images, whose size is that of training.

        Raises:
            UserError: images of another kind or size.
        """
        assert self.metadata is not None  # it names the task
        expected = [self.metadata["channels"], *self.metadata["input_size"]]
        if not isinstance(images, Tensor) or list(images.shape[1:]) != expected:
            got = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise UserError(
                f"images must be a tensor [B, {', '.join(map(str, expected))}], got {got}"
            )
        return super().forward(images)

    @torch.no_grad()
    def decoded(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return all boxes [B, N, 4] and their scores [B, N, K], duplicates included."""
        predictions = self(images)
        boxes, _ = self.detector.decode(predictions)
        return boxes.clamp(0, self.detector.image_size), self.detector.scores(predictions)
