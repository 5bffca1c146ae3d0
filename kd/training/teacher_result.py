"""Figures, size and cost of the teacher, for result.json."""

from typing import Any

from omegaconf import DictConfig

from kd.build.parts import distiller_class
from kd.data.base import DataModule
from kd.metrics import class_accuracies, confusion_matrix
from kd.models.sizing import count_parameters
from kd.tasks import task_named
from kd.training.acquired import AcquiredTeacher


def teacher_result(
    cfg: DictConfig, data: DataModule, acquired: AcquiredTeacher | None, parameters: int
) -> dict[str, Any]:
    """Return the teacher's entries of result.json, null if the run has no pretrained teacher.

    Args:
        cfg: the run's config.
        data: the run's data.
        acquired: the teacher.
        parameters: number of the student's parameters.
    """
    task = task_named(data.task)
    keys = (f"teacher/{task.test_key}", "teacher/params", "teacher/source", "teacher/seconds")
    per_class = ("teacher/test/acc_per_class",) if task.classifies else ()
    others = (*per_class, "teacher/outputs", "teacher/cache_seconds")
    if acquired is None:
        nothing = dict.fromkeys((*keys, "compression", *others))
        # A teacher that the config names, but no objective reads, is `none`; modes that train
        # their own teachers are `peers` or `itself`.
        name = "none" if distiller_class(cfg).teacher_kind == "pretrained" else cfg.teacher.name
        return {"teacher": name, **nothing, "teacher_forwards": 0}
    theirs = count_parameters(acquired.teacher)
    score, seconds = acquired.test_figures.get(task.selection), round(acquired.seconds, 3)
    values = (score, theirs, acquired.source, seconds)
    figures: dict[str, Any] = dict.fromkeys(per_class)
    figures |= {f"teacher/test/{k}": v for k, v in acquired.test_figures.items()}
    if acquired.test_logits is not None:
        counts = confusion_matrix(acquired.test_logits, data.test_targets)
        figures["teacher/test/acc_per_class"] = class_accuracies(counts)
    members: dict[str, Any] = {}
    if acquired.members:
        accuracies = list(acquired.members.values())
        members = {"teacher/members": [*acquired.members], "teacher/members/test/acc": accuracies}
    return {
        **dict(zip(keys, values, strict=True)),
        **figures,
        **members,
        **acquired.classes,
        "compression": round(theirs / parameters, 3),
        "teacher/outputs": acquired.teacher.output_source,
        "teacher/cache_seconds": round(acquired.teacher.seconds, 3),
        "teacher_forwards": acquired.teacher.forwards,
    }
