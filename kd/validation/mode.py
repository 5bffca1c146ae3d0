"""Checks of the mode: it has the teacher it needs, and both nets have the taps that are read."""

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from kd.build.given import GivenParts
from kd.build.parts import (
    distiller_class,
    distiller_settings,
    has_own_step,
    peer_configs,
    step_owner,
)
from kd.config.members import is_ensemble
from kd.errors import nearest
from kd.objectives.base import Objective
from kd.validation.ensemble import taps_problem

_TAPS_HINT = "it has no default taps: give module paths, as {role}.taps={{{tap}: features.3}}"


def mode_problems(cfg: DictConfig, given: GivenParts) -> Iterator[str]:
    """Find settings out of range, a teacher that the mode does not use, and unknown peers."""
    if has_own_step(cfg) and cfg.mode.name != "offline":
        yield f"mode={cfg.mode.name}: {step_owner(cfg)} has a mode of its own; leave mode out"
        return
    try:
        distiller_class(cfg).check_settings(**distiller_settings(cfg))
    except ValueError as error:
        yield f"{step_owner(cfg)}: {error}"
    kind, name = distiller_class(cfg).teacher_kind, cfg.teacher.name
    if has_own_step(cfg):
        yield from _own_step_problems(cfg)
    if kind == "pretrained" and name in ("itself", "peers"):
        yield f"teacher={name}: mode={cfg.mode.name} needs a pretrained teacher; name a model"
    if kind != "pretrained" and name != kind:
        teachers = "itself" if kind == "itself" else "the nets of mode.peers"
        yield (
            f"teacher={name}: with mode={cfg.mode.name} the student's teacher is {teachers}; "
            f"leave teacher out, or choose mode=offline"
        )
    if kind == "peers":
        peers = peer_configs(cfg)  # raises for anything but a list of models
        if given.student is not None and any(peer is cfg.student for peer in peers):
            yield (
                "mode.peers: a student that is given as a module cannot be built once more; name "
                "models, as mode.peers=[resnet8]"
            )


def _own_step_problems(cfg: DictConfig) -> Iterator[str]:
    """Find what a method with a LightningModule of its own cannot run with."""
    if not distiller_class(cfg).runs_teacher:
        return
    owner, cache = step_owner(cfg), cfg.teacher.cache.mode
    if is_ensemble(cfg):
        yield f"teacher=ensemble: {owner} needs the net of one teacher; name a model"
    if exchanges_images(cfg):
        yield f"control={cfg.control}: {owner} has images of its own; use control=untrained"
    if augment := OmegaConf.select(cfg, "data.augment._target_"):
        yield (
            f"data/augment: {augment.rpartition('.')[2]} augments training images, and {owner} "
            "trains on images of its own; leave data/augment out"
        )
    if cache in ("on", "refresh"):
        yield (
            f"teacher.cache={cache}: {owner} trains on images of its own, whose teacher outputs no "
            "cache holds; leave teacher.cache out"
        )


def exchanges_images(cfg: DictConfig) -> bool:
    """Return whether the teacher's outputs for a training image are those for another one."""
    return str(cfg.get("control")).startswith("shuffled")


def tap_problems(cfg: DictConfig, place: str, objective: Objective) -> Iterator[str]:
    """Find taps that an objective reads and the student or its teacher does not have.

    Args:
        cfg: the run's config.
        place: the objective's place in the config.
        objective: the objective, before its adapters are built.
    """
    available = distiller_class(cfg).available_student_taps
    if available is not None:
        yield from _not_available(cfg, place, "student", objective.student_taps, available)
    else:
        fitting = objective.fitting_student
        yield from _unknown_taps(place, "student", objective.student_taps, cfg.student, fitting)
    if objective.needs_teacher:
        yield from _teacher_taps(cfg, place, objective)
    if objective.reads_log_odds and distiller_class(cfg).starts_certain:
        yield (
            f"{place} compares logits themselves, and those of mode={cfg.mode.name} are of certain "
            "labels in the first epoch; choose a method on their softmax, such as method=kd"
        )


def _not_available(
    cfg: DictConfig, place: str, role: str, wanted: tuple[str, ...], available: tuple[str, ...]
) -> Iterator[str]:
    if missing := [tap for tap in wanted if tap not in available]:
        taps, valid = ", ".join(missing), ", ".join(available) or "logits only"
        yield f"{place} reads {role} taps {taps}, but mode={cfg.mode.name} has {valid}"


def _teacher_taps(cfg: DictConfig, place: str, objective: Objective) -> Iterator[str]:
    mode = distiller_class(cfg)
    needed = objective.needs_pretrained
    if objective.copies_head:
        needed = "copies the classifier of a pretrained teacher"
    if needed and mode.teacher_kind != "pretrained":
        yield f"{place} {needed}, but mode={cfg.mode.name} has none"
    if objective.runs_nets and (mode.teacher_kind != "pretrained" or is_ensemble(cfg)):
        yield (
            f"{place} runs a pretrained teacher on images of its own; name a model as the teacher, "
            "and leave mode out"
        )
    elif objective.runs_nets and exchanges_images(cfg):
        yield (
            f"{place} runs the teacher on images of its own, and control={cfg.control} exchanges "
            "those of the batch; use control=untrained"
        )
    if mode.available_teacher_taps is not None:
        available = mode.available_teacher_taps
        yield from _not_available(cfg, place, "teacher", objective.teacher_taps, available)
    elif mode.teacher_kind == "peers":
        # Each net teaches the others, so that each needs the taps of both sides.
        both = dict.fromkeys((*objective.student_taps, *objective.teacher_taps))
        for peer in (cfg.student, *peer_configs(cfg)):
            yield from _unknown_taps(place, "mode.peers", tuple(both), peer)
    elif mode.teacher_kind == "itself":
        yield from _unknown_taps(place, "student", objective.teacher_taps, cfg.student)
    elif is_ensemble(cfg):
        yield from taps_problem(cfg, place, objective.teacher_taps)
        yield from _unknown_taps(place, "teacher", objective.teacher_taps, cfg.teacher)
    elif cfg.teacher.net is None:
        yield f"{place} needs a teacher, and teacher={cfg.teacher.name}; name one, or method=ce"
    else:
        yield from _unknown_taps(place, "teacher", objective.teacher_taps, cfg.teacher)


def _unknown_taps(
    place: str, role: str, wanted: tuple[str, ...], net: DictConfig, fitting: str = ""
) -> Iterator[str]:
    for tap in wanted:
        if tap not in net.taps and fitting:
            yield (
                f"{place}: no tap {tap!r} in {role}={net.name}, and the method needs it; choose "
                f"{role}={fitting}, or a net with such a classifier"
            )
        elif tap not in net.taps:
            hint = nearest(tap, net.taps) if net.taps else _TAPS_HINT.format(role=role, tap=tap)
            yield f"{place}: no tap {tap!r} in {role}={net.name}; {hint}"
