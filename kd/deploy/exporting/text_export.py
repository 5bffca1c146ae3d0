"""Export of classifiers of texts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from kd.data.text import Text
from kd.deploy.exporting.compare import Comparison, compare
from kd.deploy.exporting.description import Description, Precision
from kd.deploy.exporting.exported_net import ExportedModule
from kd.deploy.exporting.exported_text_net import ExportedTextNet
from kd.deploy.exporting.request import Request
from kd.deploy.exporting.task_export import TaskExport
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.student import Student
from kd.deploy.text_student import TextStudent
from kd.errors import UserError


class TextExport(TaskExport):
    """Token ids int64 [B, L] -> logits [B, K]; the tokenizer travels in the description."""

    students = "text classification"
    precisions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "onnx": ("fp32", "fp16", "int8"),
        "torch_export": ("fp32", "fp16"),
        "safetensors": ("fp32", "fp16"),
    }
    refusals: ClassVar[Mapping[str, str]] = {
        "executorch": "ExecuTorch plans its memory for one length, and texts have many",
        "openvino": "texts of any length are not tried in OpenVINO",
    }
    keeps = "texts become token ids"

    def test_inputs(self, run: FinishedRun) -> Tensor:
        return text_data(run).arrays.test_inputs.cpu()

    def about(self, run: FinishedRun) -> dict[str, Any]:
        student = run.student
        assert isinstance(student, TextStudent)
        tokenizer = student.tokenizer  # refused if it is not known
        return {
            "input_size": [student.max_length],
            "channels": None,
            "mean": [],
            "std": [],
            "tokenizer": tokenizer.source,
            "pad_index": tokenizer.pad_index,
        }

    def net(self, student: Student, dtype: torch.dtype) -> ExportedTextNet:
        assert isinstance(student, TextStudent)
        return ExportedTextNet(student.net, student.max_length, dtype)

    def example(self, description: Description) -> Tensor:
        """Two full texts, so that the exporter takes no size for a constant that 1 is."""
        token = 1 if description["pad_index"] == 0 else 0
        return torch.full((2, description["input_size"][0]), token, dtype=torch.int64)

    def compared(self, run: FinishedRun, file: ModelFile, precision: Precision) -> Comparison:
        pad_index = text_data(run).pad_index
        targets, ids = run.data.test_targets, self.test_inputs(run)
        with self.writing():
            return compare(run.student, file, ids, targets, precision, pad_index)

    def failure(self, reason: str) -> str:
        return (
            "not written: the file would not take texts of every length, as those of LSTMs do in "
            f"format=onnx only: {reason}"
        )

    def write_int8(
        self,
        run: FinishedRun,
        net: ExportedModule,
        description: Description,
        file: Path,
        request: Request,
    ) -> dict[str, str]:
        from kd.deploy.exporting.int8_texts import write_int8_of_texts

        example = self.example(description)
        return write_int8_of_texts(text_data(run), net, example, description, file, request)


def text_data(run: FinishedRun) -> Text:
    """Return the data of a run on texts.

    Raises:
        UserError: they are not in memory as token ids.
    """
    if not isinstance(run.data, Text):
        reason = run.data.limits.images or "its test texts are not held as token ids"
        raise UserError(f"data {run.data.name!r} has no texts to compare with: {reason}")
    return run.data
