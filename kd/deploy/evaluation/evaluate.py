"""Evaluation of a finished run: teacher, student and baseline on the same test set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from kd.data.base import DataModule
from kd.deploy.cost.cost import Cost, measure_cost
from kd.deploy.cost.memory import tensor_bytes
from kd.deploy.evaluation.boxes import LEFT_OUT, box_figures
from kd.deploy.evaluation.calibration import calibration
from kd.deploy.evaluation.fidelity import fidelity
from kd.deploy.evaluation.fits import check_fits
from kd.deploy.evaluation.notes import machine_notes, run_notes, teacher_notes
from kd.deploy.evaluation.predictions import (
    Predictions,
    predict,
    raw_test_images,
    teacher_predictions,
)
from kd.deploy.evaluation.quality import quality
from kd.deploy.evaluation.robustness import robustness
from kd.deploy.evaluation.sheet import EvaluatedNet, Sheet
from kd.deploy.evaluation.words import in_words
from kd.deploy.finished_run import FinishedRun
from kd.deploy.live_teacher import LiveTeacher
from kd.deploy.student import Student
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.io.tensors import safetensors_bytes
from kd.models.sizing import count_parameters
from kd.tasks import TASKS


@dataclass(frozen=True)
class _Column:
    """A net to evaluate, with its predictions; None of a detector."""

    role: str
    name: str
    net: Student | LiveTeacher
    test: Predictions | None
    val: Predictions | None
    file_bytes: int


def evaluate(
    run: FinishedRun,
    baseline: FinishedRun | None,
    data: DataModule | None,
    device: torch.device,
    with_robustness: bool = True,
    about: Mapping[str, str] | None = None,
) -> Sheet:
    """Evaluate a run's student beside its teacher and another run's student.

    Args:
        run: the run.
        baseline: whose student is compared on the same images; None: none.
        data: to evaluate on; None: the run's own.
        device: of the nets.
        with_robustness: test on corrupted images as well.
        about: how the sheet was made.

    Raises:
        UserError: weights are missing, tasks or classes differ, or logits are not finite.
    """
    chosen = run.data if data is None else data
    runs = {"student": run, **({} if baseline is None else {"baseline": baseline})}
    for role, each in runs.items():
        setting = "run" if role == "student" else role
        check_fits(each.student, chosen, f"{setting}={each.folder}")
    notes = [
        note
        for role, each in runs.items()
        for note in run_notes(each, role, chosen, own=each is run and data is None)
    ]
    columns = _teacher_column(run, chosen, device)
    notes += teacher_notes(run, any(column.net.taps for column in columns))
    columns += [_column(each, role, chosen, device) for role, each in runs.items()]
    corrupted: dict[str, dict[str, Any]] = {}
    if not TASKS[chosen.task].classifies:
        notes.append(LEFT_OUT)
    elif with_robustness:
        corrupted, reasons = _robustness(columns, chosen, device)
        notes += reasons
    nets = [_evaluated(column, columns[0], corrupted, chosen, device) for column in columns]
    notes += machine_notes(nets)
    return Sheet(
        str(run.folder),
        chosen.name,
        list(chosen.class_names),
        nets,
        [in_words(note, chosen.task) for note in notes],
        dict(about or {}),
        chosen.task,
    )


class _NoRawImagesError(Exception):
    """The data have no raw test images, or a net does not take them; with the reason."""


def _column(run: FinishedRun, role: str, data: DataModule, device: torch.device) -> _Column:
    net = run.student.to(device)
    size = RunFolder(run.folder).weights.stat().st_size
    if not TASKS[data.task].classifies:
        return _Column(role, _name(run), net, None, None, size)
    test, val = predict(net, data), _validation(lambda: predict(net, data, "val"), data)
    return _Column(role, _name(run), net, test, val, size)


def _name(run: FinishedRun) -> str:
    mode = run.result.get("mode", "offline")
    words = [run.result.get("student"), run.result.get("method")]
    return ", ".join(map(str, words if mode == "offline" else [*words, f"mode={mode}"]))


def _teacher_column(run: FinishedRun, data: DataModule, device: torch.device) -> list[_Column]:
    acquired = None if run.teacher_was_given else run.teacher
    if acquired is None or acquired.has_other_classes:
        return []
    acquired.teacher.to(device)
    net = LiveTeacher(acquired.teacher, run.data.normalisation).to(device)
    size = sum(len(safetensors_bytes(each.state_dict())) for each in acquired.teacher.nets)
    name = str(run.result.get("teacher"))
    if not TASKS[data.task].classifies:
        return [_Column("teacher", name, net, None, None, size)]
    test = teacher_predictions(acquired, run.data, data)
    val = _validation(lambda: teacher_predictions(acquired, run.data, data, "val"), data)
    return [_Column("teacher", name, net, test, val, size)]


def _validation(predicted: Any, data: DataModule) -> Predictions | None:
    return cast(Predictions, predicted()) if data.num_samples.get("val") else None


def _evaluated(
    column: _Column,
    first: _Column,
    corrupted: Mapping[str, dict[str, Any]],
    data: DataModule,
    device: torch.device,
) -> EvaluatedNet:
    cost = _cost(column, data, device)
    if column.test is None:
        return EvaluatedNet(column.role, column.name, box_figures(column.net, data), cost)
    logits, targets = column.test.logits, column.test.targets
    val = None if column.val is None else (column.val.logits, column.val.targets)
    figures = quality(logits, targets).figures() | calibration(logits, targets, val).figures()
    if first.test is not None and first.role == "teacher" and column is not first:
        figures |= fidelity(column.test, first.test).figures()
    figures |= corrupted.get(column.role, {})
    return EvaluatedNet(column.role, column.name, figures, cost)


def _robustness(
    columns: list[_Column], data: DataModule, device: torch.device
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the figures on corrupted images by role, and a note if there are none."""
    try:
        images = _raw_images(columns, data)
    except _NoRawImagesError as reason:
        return {}, [f"Robustness is left out: {reason}."]
    nets = {
        column.role: (lambda batch, net=column.net: net(batch.to(device))) for column in columns
    }
    found = robustness(nets, images, data.test_targets)
    return {role: each.figures() for role, each in found.items()}, []


def _raw_images(columns: list[_Column], data: DataModule) -> Tensor:
    if data.pad_index is not None:
        raise _NoRawImagesError("noise, blur and JPEG are of pixels, and these data are token ids")
    unknown = [column.role for column in columns if column.net.normalisation is None]
    try:
        images = raw_test_images(data)
    except UserError as error:
        raise _NoRawImagesError(error) from None
    if unknown:
        raise _NoRawImagesError(f"the normalisation of the {unknown[0]} is not known")
    return images


def _cost(column: _Column, data: DataModule, device: torch.device) -> Cost:
    net = column.net
    if data.pad_index is None:
        sample = next(iter(data.test_dataloader())).input[0].float()
    else:
        sample = data.random_input(1)[0]  # without padding: the most that a text costs
    parts = [net.net] if isinstance(net, Student) else [*net.teacher.nets]
    return measure_cost(
        net,
        sample.to(device),
        parameters=sum(map(count_parameters, parts)),
        file_bytes=column.file_bytes,
        weight_bytes=sum(map(tensor_bytes, parts)),
    )
