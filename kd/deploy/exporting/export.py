"""Export of a finished run's student: written aside, compared, and put in place if it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

import kd
from kd.deploy.cost.latency import Latency, measure
from kd.deploy.exporting.description import FORMAT, Description
from kd.deploy.exporting.formats import FORMATS, check_installed, find_format
from kd.deploy.exporting.model_file import open_model, write_model
from kd.deploy.exporting.placement import check_free, files_of, place, scratch
from kd.deploy.exporting.request import Request
from kd.deploy.exporting.sheet import sheet, write_sheet
from kd.deploy.exporting.task_exports import export_of
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile
from kd.errors import UserError
from kd.io.provenance import git_commit
from kd.io.task_figures import task_figure

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
    task = export_of(run)
    task.check_request(request)  # before it asks for packages that would be of no use
    check_installed(request.format)
    output = _output(run, request)
    check_free(output)
    task.test_inputs(run)  # refused before anything is made
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
    task, opened = export_of(run), _opened(run, file, request)
    found = task.compared(run, opened, request.precision)
    most = request.max_drop if request.max_test_drop is None else request.max_test_drop
    problem = found.problem(most)
    if problem and not request.force:
        raise UserError(
            f"format={request.format} precision={request.precision}: not written: {problem}; "
            "force=true writes it all the same"
        )
    if opened.max_batch is not None:
        notes = notes | {"images a call": f"1 to {opened.max_batch}"}
    inputs = task.test_inputs(run)
    return sheet(
        files_of(file),
        description,
        found,
        _latencies(opened.outputs, inputs) if request.latency else [],
        format=request.format,
        command=request.command,
        run=str(run.folder),
        problem=problem,
        notes=notes,
    )


def _opened(run: FinishedRun, file: Path, request: Request) -> ModelFile:
    try:
        return open_model(file, request.format, run.student)
    except UserError as error:
        other = "onnx" if request.format != "onnx" else "safetensors"
        raise UserError(
            f"format={request.format}: not written, since what was made is not read again; try "
            f"format={other}: {str(error).replace(str(file), file.name)}"
        ) from None


def _description(run: FinishedRun, request: Request) -> Description:
    facts = export_of(run).about(run)
    known = run.student.metadata
    assert known is not None  # the facts are in it
    accuracy: Any = run.result.get(task_figure(run.result).test)
    found: dict[str, Any] = {
        "format": FORMAT,
        "student": str(run.result.get("student", "")),
        "method": known["method"],
        "task": known["task"],
        "class_names": known["class_names"],
        **facts,
        "precision": request.precision,
        "accuracy": None if accuracy is None else float(accuracy),
        "kd_version": kd.__version__,
        "git_commit": git_commit(),
    }
    return cast(Description, found)


def _latencies(call: Callable[[Any], object], images: torch.Tensor) -> list[Latency]:
    batches: Any = [images[torch.arange(size) % len(images)].numpy() for size in (1, 64)]
    return [measure(call, batch) for batch in batches]
