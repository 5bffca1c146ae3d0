"""Checks of what a single teacher may have: other classes, and parts that train along."""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig

from kd.build.parts import distiller_class, step_owner
from kd.config.compose import plain
from kd.config.controls import LABELS_ONLY
from kd.config.members import is_ensemble
from kd.errors import nearest
from kd.objectives.base import Objective
from kd.teachers.updated import LOSSES, STATISTICS
from kd.validation.numbers import is_integer, is_number

BY_NAME = "by_name"
_OF_ONE_NET = ("classes", "num_classes", "update", "update_lr")

# Control arms that exchange the teacher's outputs or its weights
_OTHER_TEACHERS = ("untrained", "shuffled", "shuffled_class")


def teacher_option_problems(cfg: DictConfig) -> Iterator[str]:
    """Find options of a single teacher that an ensemble does not have, and their wrong values."""
    set_here = {k: v for k in _OF_ONE_NET if (v := plain(cfg.teacher.get(k))) is not None}
    if is_ensemble(cfg):
        for key, value in set_here.items():
            yield f"teacher.{key}={value}: is of a single teacher; remove it, or teacher=ensemble"
        return
    yield from _class_problems(cfg, set_here)
    yield from _update_problems(cfg)


def _class_problems(cfg: DictConfig, options: dict[str, Any]) -> Iterator[str]:
    classes, count = options.get("classes"), options.get("num_classes")
    if classes is not None and classes != BY_NAME and not _is_map(classes):
        yield (
            f"teacher.classes={classes}: must be by_name, or a list of different classes of the "
            "teacher, numbers or names, one for each of the data's"
        )
    if count is not None and not (is_integer(count) and count > 1):
        yield f"teacher.num_classes={count}: must be a whole number ≥ 2"
    if (classes, count) != (None, None) and not _has_own_weights(cfg):
        yield (
            "teacher.classes and teacher.num_classes belong to teacher.checkpoint=…; a teacher "
            "that is trained here has the classes of the data"
        )


def _update_problems(cfg: DictConfig) -> Iterator[str]:
    parts, rate = plain(cfg.teacher.get("update")), cfg.teacher.get("update_lr")
    loss = cfg.teacher.get("update_loss", LOSSES[0])
    if loss not in LOSSES:
        yield f"teacher.update_loss={loss}: there is no such loss; {nearest(loss, LOSSES)}"
    if rate is not None and not (is_number(rate) and rate > 0):
        yield f"teacher.update_lr={rate}: must be a number > 0, or null for the student's"
    if parts is None:
        return
    if not isinstance(parts, list) or not parts or not all(isinstance(p, str) for p in parts):
        yield f"teacher.update={parts}: must be a list of names of its modules, as [fc], or bn"
        return
    if cfg.teacher.cache.mode in ("on", "refresh"):
        yield (
            f"teacher.cache={cfg.teacher.cache.mode}: teacher.update changes the outputs of the "
            "teacher; remove one"
        )
    control = cfg.get("control")
    if control in _OTHER_TEACHERS:
        yield f"control={control}: compares a teacher that stays as it is; remove teacher.update"


def update_problems(
    cfg: DictConfig, classifies: bool, objectives: Mapping[str, Objective]
) -> Iterator[str]:
    """Find a teacher that cannot train along with the method, the mode or the task.

    Args:
        cfg: the run's config.
        classifies: whether the task is a classification.
        objectives: those of a weight other than 0.
    """
    parts, loss = plain(cfg.teacher.get("update")), cfg.teacher.get("update_loss")
    if not parts or cfg.get("control") in LABELS_ONLY:
        return
    if distiller_class(cfg).teacher_kind != "pretrained" or not classifies:
        yield (
            f"teacher.update={parts}: a classifier's pretrained teacher can train along; remove "
            f"it, or choose mode=offline and data of classes"
        )
    elif runner := _runner(cfg, objectives):
        yield f"teacher.update={parts}: {runner}, and needs it as it was; remove teacher.update"
    elif not any(term.needs_teacher for term in objectives.values()):
        yield f"teacher.update={parts}: method={cfg.method.name} reads no teacher; remove it"
    elif (
        set(parts) != {STATISTICS}
        and loss != "method"
        and not any(term.fits_every_net for term in objectives.values())
    ):
        yield (
            f"teacher.update_loss={loss}: method={cfg.method.name} has no term that compares any "
            "net's logits with labels, of a weight other than 0; set teacher.update_loss=method"
        )


def _runner(cfg: DictConfig, objectives: Mapping[str, Objective]) -> str | None:
    """What uses the teacher beside its outputs in training, and how; None: nothing does."""
    alone = "runs the teacher's net by itself"
    if distiller_class(cfg).runs_teacher:
        return f"{step_owner(cfg)} {alone}"
    for name, objective in objectives.items():
        runs = objective.runs_nets or objective.runs_teacher_layers
        if use := alone if runs else objective.needs_pretrained:
            return f"method.objectives.{name} {use}"
    return None


def class_map_problems(cfg: DictConfig, objectives: Mapping[str, Objective]) -> Iterator[str]:
    """Find terms that run the teacher's own layers, whose classes no map selects.

    Args:
        cfg: the run's config.
        objectives: those of a weight other than 0.
    """
    if is_ensemble(cfg) or (classes := plain(cfg.teacher.get("classes"))) is None:
        return
    for name in (name for name, term in objectives.items() if term.runs_teacher_layers):
        yield (
            f"teacher.classes={classes}: method.objectives.{name} runs the layers of the teacher "
            "itself, up to the logits of all its classes; choose another method, such as method=kd"
        )


def _has_own_weights(cfg: DictConfig) -> bool:
    given = "given" in (plain(cfg.teacher.net) or {})
    return cfg.teacher.checkpoint is not None or given or cfg.get("control") == "untrained"


def _is_map(classes: Any) -> bool:
    if not isinstance(classes, list) or not classes or len(set(map(str, classes))) < len(classes):
        return False
    return all(isinstance(each, str) or (is_integer(each) and each >= 0) for each in classes)
