"""Checks of a run on a transfer set without labels: nothing that trains the student reads them."""

from collections.abc import Iterator, Mapping

from omegaconf import DictConfig

from kd.build.given import GivenParts
from kd.build.method import stage_configs, vanishes
from kd.build.parts import distiller_class
from kd.config.controls import LABELS_ONLY
from kd.config.members import is_ensemble
from kd.objectives.base import Objective
from kd.validation.optimizer import parts_optimizer

WITHOUT_LABELS = "data.labels=false"
# Control arms whose student, or whose teacher's outputs, depend on the training labels
_CONTROLS = (*LABELS_ONLY, "shuffled_class")
_TEACHER_ALONE = "a method that reads the teacher alone, such as method=kd method.alpha=1"


def uses_labels(cfg: DictConfig, given: GivenParts) -> bool:
    """Return whether the training batches of a run have labels."""
    return given.data.labels if given.data is not None else bool(cfg.data.get("labels", True))


def label_problems(
    cfg: DictConfig, given: GivenParts, objectives: Mapping[str, Objective]
) -> Iterator[str]:
    """Find what reads training labels, although the run has none.

    Args:
        cfg: the run's config.
        given: parts that the run has beside its config.
        objectives: those of a weight other than 0.
    """
    if uses_labels(cfg, given):
        if cfg.data.get("labels") is False:
            yield (
                f"{WITHOUT_LABELS}: data given as an object decide themselves whether their "
                "batches have labels; leave it out, and choose " + _TEACHER_ALONE
            )
        return
    control = cfg.get("control")
    if control in _CONTROLS:
        yield (
            f"control={control} reads training labels, and {WITHOUT_LABELS}; choose untrained, "
            "shuffled or self"
        )
        return
    if distiller_class(cfg).teacher_kind != "pretrained":
        yield (
            f"mode={cfg.mode.name}: its nets learn from labels and from each other, and "
            f"{WITHOUT_LABELS}; choose mode=offline, which has a trained teacher"
        )
        return
    if is_ensemble(cfg) and cfg.teacher.get("weighting") == "confidence":
        yield (
            f"teacher.weighting=confidence reads labels, and {WITHOUT_LABELS}; choose "
            "teacher.weighting=entropy"
        )
    optimizer = parts_optimizer(cfg)
    if optimizer is not None:
        yield (
            f"optimizer={optimizer.__name__.lower()} has a momentum for the gradient of labels, "
            f"and {WITHOUT_LABELS}; choose optimizer=sgd"
        )
    if distiller_class(cfg).runs_teacher:  # its images are made for classes, which are the labels
        return
    for name, objective in objectives.items():
        if objective.reads_labels:
            yield (
                f"method.objectives.{name} reads labels, and {WITHOUT_LABELS}; "
                f"{_remedy(cfg, name, objective)}"
            )


def _remedy(cfg: DictConfig, name: str, objective: Objective) -> str:
    """What to set instead: the term's weight to 0, if others remain; else another method."""
    if name not in cfg.method.objectives:
        return f"leave the objective out, or choose {_TEACHER_ALONE}"
    if objective.needs_labels or set(cfg.method.objectives) == {name}:
        return f"choose {_TEACHER_ALONE}"
    found = []
    if vanishes(cfg, name, alpha=1.0):
        found.append("method.alpha=1 (its weight is 1 - alpha)")
    places = [stage.place for stage in stage_configs(cfg) if stage.weights.get(name, 0) != 0]
    if not found and any("[" in place for place in places):  # the command line sets no list's item
        return f"choose {_TEACHER_ALONE}"
    places = [place for place in places if "[" not in place]
    return f"set {' or '.join([*found, *(f'{place}.{name}=0' for place in places)])}"
