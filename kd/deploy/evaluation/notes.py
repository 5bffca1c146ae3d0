"""Sentences of the sheet: what a reader has to know about the data, the nets and the machine."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kd.data.base import DataModule
from kd.deploy.evaluation.sheet import EvaluatedNet
from kd.deploy.finished_run import FinishedRun
from kd.distillers.deployed import ChangedStudent
from kd.models.sizing import count_parameters
from kd.training.fingerprints import data_fingerprint


def run_notes(run: FinishedRun, role: str, data: DataModule, own: bool) -> list[str]:
    """Return what the reader has to know of a run's student.

    Args:
        run: the run.
        role: of its student in the sheet.
        data: the data that the sheet is about.
        own: they are the run's own.
    """
    found = [*([] if own else _data_notes(run, role, data)), *_limited(run, role)]
    return [*found, *_mode_notes(run.result, role), *_classifier(run, role)]


def teacher_notes(run: FinishedRun, has_embedding: bool) -> Iterator[str]:
    """Yield what the reader has to know of the run's teacher, if there is one."""
    if run.teacher_was_given:
        yield (
            "The teacher is left out: it was given to kd.distil as a module, which the folder of "
            "the run does not hold."
        )
        return
    teacher = run.teacher
    if teacher is None:
        return
    if teacher.has_other_classes:
        yield (
            f"The teacher is left out: it has {teacher.classes['teacher/num_classes']} other "
            "classes, and the student has learnt from its features alone."
        )
    if parts := run.result.get("teacher/update"):
        yield (
            f"The teacher is as it was at the selected epoch: parts of it ({', '.join(parts)}) "
            "trained along with the student."
        )
    if teacher.members:
        embedding = "" if has_embedding else ", without an embedding of its own for CKA"
        yield (
            f"The teacher is an ensemble of {_accuracies(teacher.members)}{embedding}. Its figures "
            "are those of the combined logits; its parameters, MACs, latency and memory are those "
            "of all members."
        )
    taught = run.result.get("teacher/weights_hash")
    if taught is not None and teacher.weights_hash != taught:
        yield "The teacher has other weights than the one that taught the student."


def machine_notes(nets: Sequence[EvaluatedNet]) -> Iterator[str]:
    """Yield where the latencies were measured, and whether they can be trusted."""
    cost = nets[0].cost
    threads = next(iter(cost.latency.values())).threads
    yield (
        f"Latency and memory were measured on {cost.device}, with {threads} of {os.cpu_count()} "
        "CPU threads, in PyTorch, on normalised float32 images."
    )
    noisy = [net.role for net in nets if net.cost.noisy]
    if noisy:
        yield (
            f"The machine was noisy: other work disturbed the latency of {', '.join(noisy)}. "
            "Measure again on a quiet machine before comparing."
        )


def _data_notes(run: FinishedRun, role: str, data: DataModule) -> Iterator[str]:
    trained, name = run.result.get("data/fingerprint"), run.result.get("data")
    if trained is not None and data_fingerprint(data) == trained:
        return
    if name == data.name:
        yield (
            f"The {role} was trained on other data of the name {name}: the images, their split or "
            "their normalisation differ."
        )
    else:
        yield (
            f"The {role} was trained on {name} and is evaluated on another data set: {data.name}."
        )
    student = run.student
    if student.class_names and student.class_names != list(data.class_names):
        yield f"The classes of the {role} have other names; labels are taken to have its order."
    if data.pad_index is not None:
        return
    if student.metadata is not None and student.metadata["input_size"] != [*data.input_shape[1:]]:
        sizes = (
            " x ".join(map(str, size))
            for size in (student.metadata["input_size"], data.input_shape[1:])
        )
        yield "The {} was trained on images of {} pixels, and these have {}.".format(role, *sizes)


def _limited(run: FinishedRun, role: str) -> Iterator[str]:
    limited = run.result.get("limited")
    if limited:
        tested = ", and its result.json has other test figures" * ("test" in limited)
        yield (
            f"The run of the {role} used a part of its images only ({', '.join(limited)}){tested}."
        )


def _mode_notes(result: Mapping[str, Any], role: str) -> Iterator[str]:
    """Yield which of the nets, branches or exits that were trained together is evaluated."""
    peers = {
        f"{name} ({result[f'{name}/net']})": result.get(f"{name}/test/acc")
        for name in (key.removesuffix("/net") for key in result if key.endswith("/net"))
    }
    if peers:
        yield (
            f"The {role} is the first of the nets that were trained together (mode="
            f"{result.get('mode')}), and is evaluated alone. Test accuracy of the others in their "
            f"run: {_accuracies(peers)}."
        )
    others = {
        key.split("/")[1]: value
        for key, value in result.items()
        if key.startswith("test/") and key.endswith("/acc") and key.count("/") == 2
    }
    if "ema" in others:
        yield (
            f"The {role} has the trained weights; test accuracy of their moving average in its "
            f"run: {_accuracies(others)}."
        )
    elif others:
        yield (
            f"The {role} predicts with its last exit. Test accuracy of the earlier ones in its "
            f"run, which it no longer has: {_accuracies(others)}."
        )


def _classifier(run: FinishedRun, role: str) -> Iterator[str]:
    net = run.student.net
    if isinstance(net, ChangedStudent):
        own, total = count_parameters(net.objective), count_parameters(net)
        yield (
            f"The {role} predicts with the teacher's classifier ({run.result.get('method')}): "
            f"{own} of its {total} parameters are the projector and that classifier."
        )


def _accuracies(nets: Mapping[str, float | None]) -> str:
    return ", ".join(
        name if value is None else f"{name} {100 * value:.2f} %" for name, value in nets.items()
    )
