"""Writing of a student in a format, and opening of the file in the format's own runtime."""

import copy
from pathlib import Path

import torch

from kd.deploy.exporting.description import Description
from kd.deploy.exporting.exported_net import ExportedModule
from kd.deploy.exporting.request import Request
from kd.deploy.exporting.task_export import TaskExport
from kd.deploy.exporting.task_exports import export_of
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.student import Student


def write_model(
    run: FinishedRun, description: Description, file: Path, request: Request
) -> dict[str, str]:
    """Write a run's student as a file; returns further rows of its sheet.

    Raises:
        UserError: the student or its data lack what the format needs.
        OSError: the file cannot be written.
    """
    task = export_of(run)
    if request.format == "safetensors":
        from kd.deploy.exporting.safetensors_file import write_safetensors

        write_safetensors(run.student, description, file)
        return {task.keeps: "by kd.load; the file holds the weights and their description"}
    net = _net(task, run.student, request)
    if request.precision == "int8":
        with task.writing():
            return task.write_int8(run, net, description, file, request)
    if request.format == "torch_export":
        from kd.deploy.exporting.torch_export_file import write_torch_export as write
    elif request.format == "openvino":
        from kd.deploy.exporting.openvino_file import write_openvino as write
    elif request.format == "executorch":
        from kd.deploy.exporting.executorch_file import write_executorch as write
    else:
        from kd.deploy.exporting.onnx_file import write_onnx as write
    with task.writing():
        write(net, task.example(description), description, file)
    return {}


def open_model(file: Path, format_name: str, student: Student) -> ModelFile:
    """Open an exported file in its own runtime.

    Args:
        file: as `write_model` wrote it.
        format_name: of the file.
        student: whose net is copied where no constructor builds it from a weights file (SimKD).
    """
    if format_name == "openvino":
        from kd.deploy.runtimes.openvino import OpenvinoFile

        return OpenvinoFile(file)
    if format_name == "executorch":
        from kd.deploy.runtimes.executorch import ExecutorchFile

        return ExecutorchFile(file)
    if format_name == "safetensors":
        from kd.deploy.runtimes.safetensors import SafetensorsFile

        known = student.metadata is not None and student.metadata["architecture"] is not None
        return SafetensorsFile(file, None if known else student.net)
    from kd.deploy.runtimes.open import open_model_file

    return open_model_file(file, torch.get_num_threads())


def _net(task: TaskExport, student: Student, request: Request) -> ExportedModule:
    # OpenVINO rounds the weights itself when it saves them.
    half = request.precision == "fp16" and request.format != "openvino"
    # ExecuTorch refuses weights that are channels-last; other runtimes lay them out themselves.
    plain = copy.deepcopy(student).to(memory_format=torch.contiguous_format)
    return task.net(plain, torch.float16 if half else torch.float32)
