"""Export of the weights alone, with their description, for `kd.load`."""

from pathlib import Path

import torch

from kd.deploy.exporting.description import KEY as EXPORT
from kd.deploy.exporting.description import Description
from kd.deploy.exporting.description import encode as encode_export
from kd.deploy.student import Student
from kd.errors import UserError
from kd.io.student_metadata import encode
from kd.io.tensors import safetensors_bytes


def write_safetensors(student: Student, description: Description, path: Path) -> None:
    """Write a student's weights; the file loads with `kd.load`, which does the preprocessing.

    Args:
        student: with the metadata of its file.
        description: under the key `export`, beside the student's own.
        path: of the file, which is replaced.

    Raises:
        UserError: nothing is known about the student.
        OSError: the file cannot be written.
    """
    if student.metadata is None:
        raise UserError("the student's file says nothing about its net, so kd.load cannot build it")
    half = description["precision"] == "fp16"
    weights = {
        name: value.half() if half and value.dtype == torch.float32 else value
        for name, value in student.state_dict().items()
    }
    metadata = {**encode(student.metadata), f"{EXPORT}.export": encode_export(description)}
    path.write_bytes(safetensors_bytes(weights, metadata))
