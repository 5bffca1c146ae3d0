"""Export of a finished run's student: written aside, compared, and put in place if it holds."""

from pathlib import Path
from typing import Any

import torch

import kd
from kd.deploy.cost.latency import Latency, measure
from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.compare import compare
from kd.deploy.exporting.description import FORMAT, Description
from kd.deploy.exporting.formats import FORMATS, find_format
from kd.deploy.exporting.model_file import open_model, write_model
from kd.deploy.exporting.placement import check_free, files_of, place, scratch
from kd.deploy.exporting.request import Request
from kd.deploy.exporting.sheet import sheet, write_sheet
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.errors import UserError
from kd.io.provenance import git_commit

__all__ = ["Request", "export"]


def export(run: FinishedRun, request: Request) -> Path:
    """Write a student to a file, with a sheet beside it.

    Everything is made in a temporary folder; the files are moved in place once the file has been
    loaded in its own runtime and agrees with the student on the whole test set.

    Returns:
        The file.

    Raises:
        UserError: the pair of format and precision does not exist, something else lies where the
            file goes, the student or its data lack what an export needs, the file does not agree
            with the student, or it cannot be written.
    """
    find_format(request.format, request.precision)
    output = _output(run, request)
    check_free(output)
    raw_test_images(run.data)  # refused before anything is made
    description = _description(run, request)
    with scratch(output) as folder:
        file = folder / output.name
        notes = write_model(run, description, file, request)
        content = _compared(run, description, file, request, notes)
        write_sheet(content, file)
        place(file, output)
    return output


def _output(run: FinishedRun, request: Request) -> Path:
    suffix = FORMATS[request.format].suffix
    output = request.output or run.folder / "export" / f"student-{request.precision}{suffix}"
    if output.suffix != suffix:
        raise UserError(f"output={output}: a file of format={request.format} ends in {suffix}")
    return output


def _compared(
    run: FinishedRun,
    description: Description,
    file: Path,
    request: Request,
    notes: dict[str, str],
) -> dict[str, Any]:
    """Return the sheet of a file that was compared with the student in its own runtime."""
    images, opened = raw_test_images(run.data), open_model(file, request.format, run.student)
    found = compare(run.student, opened, images, run.data.test_targets, request.precision)
    most = request.max_drop if request.max_test_drop is None else request.max_test_drop
    problem = found.problem(most)
    if problem and not request.force:
        raise UserError(
            f"format={request.format} precision={request.precision}: not written: {problem}; "
            "force=true writes it all the same"
        )
    if opened.max_batch is not None:
        notes = notes | {"images a call": f"1 to {opened.max_batch}"}
    return sheet(
        files_of(file),
        description,
        found,
        _latencies(opened, images) if request.latency else [],
        format=request.format,
        command=request.command,
        run=str(run.folder),
        problem=problem,
        notes=notes,
    )


def _description(run: FinishedRun, request: Request) -> Description:
    student = run.student
    known = student.metadata
    if known is None or student.normalisation is None:
        raise UserError(
            f"{run.folder}: the student's file does not say how its images were normalised (mean, "
            "std), so no file can be made that takes raw images"
        )
    mean, std = student.normalisation
    channels = known["channels"]
    assert channels is not None  # images have some
    accuracy = run.result.get("test/acc")
    return {
        "format": FORMAT,
        "student": str(run.result.get("student", "")),
        "method": known["method"],
        "task": known["task"],
        "class_names": known["class_names"],
        "input_size": known["input_size"],
        "channels": channels,
        "mean": list(mean),
        "std": list(std),
        "precision": request.precision,
        "accuracy": None if accuracy is None else float(accuracy),
        "kd_version": kd.__version__,
        "git_commit": git_commit(),
    }


def _latencies(file: ModelFile, images: torch.Tensor) -> list[Latency]:
    batches: Any = [images[torch.arange(size) % len(images)].numpy() for size in (1, 64)]
    return [measure(file.logits, batch) for batch in batches]
