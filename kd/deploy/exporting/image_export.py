"""Export of classifiers of images."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.compare import Comparison, compare
from kd.deploy.exporting.description import Description, Precision
from kd.deploy.exporting.exported_net import ExportedModule, ExportedNet, exported_net
from kd.deploy.exporting.request import Request
from kd.deploy.exporting.task_export import TaskExport, all_precisions
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.student import Student
from kd.errors import UserError


class ImageExport(TaskExport):
    """uint8 images [B, C, H, W] -> logits [B, K]; mean and std are in the graph."""

    students = "image classification"
    precisions = all_precisions()

    def test_inputs(self, run: FinishedRun) -> Tensor:
        return raw_test_images(run.data)

    def about(self, run: FinishedRun) -> dict[str, Any]:
        return image_facts(run)

    def net(self, student: Student, dtype: torch.dtype) -> ExportedNet:
        return exported_net(student, dtype)

    def example(self, description: Description) -> Tensor:
        return example_images(description)

    def compared(self, run: FinishedRun, file: ModelFile, precision: Precision) -> Comparison:
        images = self.test_inputs(run)
        return compare(run.student, file, images, run.data.test_targets, precision)

    def write_int8(
        self,
        run: FinishedRun,
        net: ExportedModule,
        description: Description,
        file: Path,
        request: Request,
    ) -> dict[str, str]:
        from kd.deploy.exporting.int8_run import write_int8_of_run

        example = self.example(description)
        return write_int8_of_run(run, cast(ExportedNet, net), example, description, file, request)


def image_facts(run: FinishedRun) -> dict[str, Any]:
    """Return size, channels and normalisation of a student's images.

    Raises:
        UserError: the student's file does not say how its images were normalised.
    """
    student = run.student
    known = student.metadata
    if known is None or student.normalisation is None:
        raise UserError(
            f"{run.folder}: the student's file does not say how its images were normalised (mean, "
            "std), so no file can be made that takes raw images"
        )
    mean, std = student.normalisation
    size, channels = known["input_size"], known["channels"]
    return {"input_size": size, "channels": channels, "mean": list(mean), "std": list(std)}


def example_images(description: Description) -> Tensor:
    """Return two black images uint8 [2, C, H, W]."""
    channels, (height, width) = description["channels"], description["input_size"]
    assert channels is not None  # images have some
    return torch.zeros(2, channels, height, width, dtype=torch.uint8)
