"""Export of detectors."""

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from kd.deploy.box_student import BoxStudent
from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.compare_boxes import BoxComparison, compare_boxes
from kd.deploy.exporting.description import Description, Precision
from kd.deploy.exporting.exported_detector import ExportedDetector
from kd.deploy.exporting.image_export import example_images, image_facts
from kd.deploy.exporting.task_export import TaskExport
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.student import Student
from kd.deploy.suppression import Suppression
from kd.errors import UserError


class BoxExport(TaskExport):
    """uint8 images [B, C, S, S] -> boxes [B, N, 4] and scores [B, N, K], duplicates included."""

    students = "object detection"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "onnx": ("fp32",),
        "safetensors": ("fp32",),
    }
    refusals: ClassVar[Mapping[str, str]] = {
        "int8": "layers stay in fp32 by validation accuracy, which detectors do not have",
        "fp16": "boxes in float16 are off by more than the tolerance of 1e-3 pixels",
        "torch_export": "kd.predict reads boxes from ONNX files and runs",
        "executorch": "kd.predict reads boxes from ONNX files and runs",
        "openvino": "kd.predict reads boxes from ONNX files and runs",
    }

    def test_inputs(self, run: FinishedRun) -> Tensor:
        return raw_test_images(run.data)

    def about(self, run: FinishedRun) -> dict[str, Any]:
        settings = Suppression.of(_student(run.student).detector)
        return {**image_facts(run), **settings._asdict()}

    def net(self, student: Student, dtype: torch.dtype) -> ExportedDetector:
        assert student.normalisation is not None  # see `about`
        mean, std = student.normalisation
        return ExportedDetector(_student(student).detector, mean, std)

    def example(self, description: Description) -> Tensor:
        return example_images(description)

    def compared(self, run: FinishedRun, file: ModelFile, precision: Precision) -> BoxComparison:
        images, targets = self.test_inputs(run), run.data.test_targets
        with self.writing():
            return compare_boxes(_student(run.student), file.boxes, images, targets)

    def write_int8(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("refused by check_request")

    def failure(self, reason: str) -> str:
        return (
            "not written: the exporter or the runtime does not know this detector (those of two "
            "stages choose regions by their content); what works: format=safetensors, or the run "
            f"itself in kd.predict: {reason}"
        )


def _student(student: Student) -> BoxStudent:
    if not isinstance(student, BoxStudent):
        raise UserError("the student's file does not say that it is a detector")
    return student
