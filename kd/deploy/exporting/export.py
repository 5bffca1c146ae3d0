"""Export of a finished run's student: written aside, compared, and put in place if it holds."""

import copy
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import kd
from kd.deploy.cost.latency import Latency, measure
from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting import compare as comparing
from kd.deploy.exporting.description import FORMAT, Description, Precision
from kd.deploy.exporting.exported_net import ExportedNet, exported_net
from kd.deploy.exporting.formats import find_format
from kd.deploy.exporting.int8_images import calibration_images, validation_images
from kd.deploy.exporting.sheet import as_json, is_former_export, markdown, sheet, sheet_files
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.student import Student
from kd.errors import UserError
from kd.io.own_files import is_link
from kd.io.provenance import git_commit

log = logging.getLogger(__name__)

_SUFFIXES = {".xml": ".bin"}  # of a second file that belongs to the first


@dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
        format: a name in `formats.FORMATS`.
        precision: of weights and arithmetic.
        output: the file; None: `export/` in the run's folder.
        max_drop: the most accuracy that the file may lose, in points.
        max_test_drop: the same for the comparison on the test set, which is not to select where
            validation judges the file; None: `max_drop`.
        force: write it even if the comparison does not hold.
        calibration_images: training images behind the ranges of int8 activations.
        latency: measure it.
        command: as typed, for the sheet.
    """

    format: str
    precision: Precision
    output: Path | None = None
    max_drop: float = 0.5
    max_test_drop: float | None = None
    force: bool = False
    calibration_images: int = 512
    latency: bool = True
    command: str = ""


def export(run: FinishedRun, request: Request) -> Path:
    """Write a student to a file, with a sheet beside it.

    Everything is made in a temporary folder; the files are moved in place once the file has been
    loaded in its own runtime and agrees with the student on the whole test set.

    Returns:
        The file.

    Raises:
        UserError: the pair of format and precision does not exist, something else lies where the
            file goes, the student or its data lack what an export needs, or the file does not
            agree with the student.
        OSError: the file cannot be written.
    """
    kind = find_format(request.format, request.precision)
    name = f"student-{request.precision}{kind.suffix}"
    output = request.output or run.folder / "export" / name
    if output.suffix != kind.suffix:
        raise UserError(f"output={output}: a file of format={request.format} ends in {kind.suffix}")
    _check_free(output)
    student = run.student
    images = raw_test_images(run.data)
    description = _description(run, student, request)
    with _scratch(output) as folder:
        file = folder / output.name
        notes = _write(run, student, description, file, request)
        opened = _open(file, request.format, student)
        found = comparing.compare(student, opened, images, run.data.test_targets, request.precision)
        if opened.max_batch is not None:
            notes["images a call"] = f"1 to {opened.max_batch}"
        most = request.max_drop if request.max_test_drop is None else request.max_test_drop
        problem = found.problem(most)
        if problem and not request.force:
            raise UserError(
                f"format={request.format} precision={request.precision}: not written: {problem}; "
                "force=true writes it all the same"
            )
        content = sheet(
            _files(file),
            description,
            found,
            _latencies(opened, images) if request.latency else [],
            format=request.format,
            command=request.command,
            run=str(run.folder),
            problem=problem,
            notes=notes,
        )
        for path, text in zip(
            sheet_files(file), (as_json(content), markdown(content).encode()), strict=True
        ):
            path.write_bytes(text)
        # The sheet last: without it, a file that was moved is not taken for an export.
        for path in (*reversed(_files(file)), *reversed(sheet_files(file))):
            path.replace(output.parent / path.name)
    return output


def _check_free(output: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    for path in (output, *sheet_files(output), *_second(output)):
        if is_link(path) or path.is_dir():
            raise UserError(f"output={output}: {path} is a folder or a link; choose another name")
    if output.exists():
        if not is_former_export(output):
            raise UserError(
                f"output={output} exists and is not an earlier export; choose another name"
            )
        return
    for path in (*sheet_files(output), *_second(output)):
        if path.exists():
            raise UserError(f"output={output}: {path} is in the way; choose another name")


def _second(file: Path) -> list[Path]:
    return [file.with_suffix(_SUFFIXES[file.suffix])] if file.suffix in _SUFFIXES else []


def _files(file: Path) -> list[Path]:
    return [file, *_second(file)]


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Provide a temporary folder beside `output`; a folder that this made is removed if unused."""
    made = [path for path in (output.parent, *output.parent.parents) if not path.exists()]
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".export.", dir=output.parent) as folder:
            yield Path(folder)
    finally:
        for path in made:
            if any(path.iterdir()):
                break
            path.rmdir()


def _description(run: FinishedRun, student: Student, request: Request) -> Description:
    known = student.metadata
    if known is None or student.normalisation is None:
        raise UserError(
            f"{run.folder}: the student's file does not say how its images were normalised (mean, "
            "std), so no file can be made that takes raw images"
        )
    mean, std = student.normalisation
    accuracy = run.result.get("test/acc")
    return {
        "format": FORMAT,
        "student": str(run.result.get("student", "")),
        "method": known["method"],
        "task": known["task"],
        "class_names": known["class_names"],
        "input_size": known["input_size"],
        "channels": known["channels"],
        "mean": list(mean),
        "std": list(std),
        "precision": request.precision,
        "accuracy": None if accuracy is None else float(accuracy),
        "kd_version": kd.__version__,
        "git_commit": git_commit(),
    }


def _write(
    run: FinishedRun, student: Student, description: Description, file: Path, request: Request
) -> dict[str, str]:
    """Write the file; returns further rows of its sheet."""
    if request.format == "safetensors":
        from kd.deploy.exporting.safetensors_file import write_safetensors

        write_safetensors(student, description, file)
        return {"preprocessing": "by kd.load; the file holds the weights and their description"}
    channels, (height, width) = description["channels"], description["input_size"]
    example = torch.zeros(2, channels, height, width, dtype=torch.uint8)
    net = _net(student, request)
    if request.format == "torch_export":
        from kd.deploy.exporting.torch_export_file import write_torch_export

        write_torch_export(net, example, description, file)
    elif request.format == "openvino":
        from kd.deploy.exporting.openvino_file import write_openvino

        write_openvino(net, example, description, file)
    elif request.format == "executorch":
        from kd.deploy.exporting.executorch_file import write_executorch

        write_executorch(net, example, description, file)
    else:
        return _write_onnx(run, net, example, description, file, request)
    return {}


def _net(student: Student, request: Request) -> ExportedNet:
    # OpenVINO rounds the weights itself when it saves them.
    half = request.precision == "fp16" and request.format != "openvino"
    # ExecuTorch refuses weights that are channels-last; other runtimes lay them out themselves.
    plain = copy.deepcopy(student).to(memory_format=torch.contiguous_format)
    return exported_net(plain, torch.float16 if half else torch.float32)


def _write_onnx(
    run: FinishedRun,
    net: ExportedNet,
    example: torch.Tensor,
    description: Description,
    file: Path,
    request: Request,
) -> dict[str, str]:
    from kd.deploy.exporting.onnx_file import write_onnx

    if request.precision != "int8":
        write_onnx(net, example, description, file)
        return {}
    from kd.deploy.exporting.int8 import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        write_int8,
    )

    calibration = calibration_images(run.data, request.calibration_images)
    images, targets = validation_images(run.data)
    evaluate = partial(comparing.accuracy, images=images, targets=targets)
    fp32 = file.with_name("fp32.onnx")
    write_onnx(net, example, description, fp32)
    found = write_int8(fp32, calibration, evaluate, request.max_drop, file, force=request.force)
    return {
        "quantisation": found.scheme,
        "calibration": f"{found.calibration_images} training images",
        "layers in fp32": f"{len(found.fp32_layers)} of {found.layers}: "
        f"{', '.join(found.fp32_layers) or 'none'}",
        "validation accuracy, fp32 and int8": f"{found.fp32_accuracy:.4f}, "
        f"{found.int8_accuracy:.4f}",
    }


def _open(file: Path, name: str, student: Student) -> ModelFile:
    if name == "openvino":
        from kd.deploy.runtimes.openvino import OpenvinoFile

        return OpenvinoFile(file)
    if name == "executorch":
        from kd.deploy.runtimes.executorch import ExecutorchFile

        return ExecutorchFile(file)
    if name == "safetensors":
        from kd.deploy.runtimes.safetensors import SafetensorsFile

        known = student.metadata is not None and student.metadata["architecture"] is not None
        return SafetensorsFile(file, None if known else student.net)
    from kd.deploy.runtimes.open import open_model_file

    return open_model_file(file, torch.get_num_threads())


def _latencies(file: ModelFile, images: torch.Tensor) -> list[Latency]:
    batches: Any = [images[torch.arange(size) % len(images)].numpy() for size in (1, 64)]
    return [measure(file.logits, batch) for batch in batches]
