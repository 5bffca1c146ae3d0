"""The check before a run: every mistake of a config at once, before anything heavy happens."""

import inspect
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, get_args

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from kd.build import (
    StageConfig,
    build_objectives,
    build_optimizer,
    build_schedules,
    distiller_class,
    make,
    peer_configs,
    root_cause,
    stage_configs,
)
from kd.config import plain
from kd.errors import UserError, nearest
from kd.members import combination_problems, is_ensemble, settings_problems, taps_problem
from kd.objectives.base import Objective
from kd.teachers.cached import DTYPES

MODES = ("auto", "on", "off", "refresh")
COMPILE = ("default", "reduce-overhead", "max-autotune")
ANY = "**"
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def check_config(cfg: DictConfig) -> None:
    """Import every `_target_`, bind its arguments, and check what only makes sense together.

    Raises:
        UserError: names every mistake with its place and the nearest valid choice.
    """
    problems = list(_missing(cfg)) or [*_knobs(cfg), *_targets(_plain(cfg), "")]
    if not problems:
        problems = [
            *_mode(cfg),
            *(combination_problems(cfg) if is_ensemble(cfg) else ()),
            *_method(cfg),
            *_optimization(cfg, ""),
            *_optimization(cfg.teacher.training, "teacher.training."),
        ]
    problems = problems or list(_schedules(cfg))
    if problems:
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise UserError("\n  ".join([f"{count} in the configuration", *problems]))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        return plain(cfg)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {root_cause(error)}") from error


def _missing(cfg: DictConfig) -> Iterator[str]:
    for key in sorted(OmegaConf.missing_keys(cfg)):
        yield f"{key} has no value; give it as {key}=…"


def _knobs(cfg: DictConfig) -> Iterator[str]:
    """Check the values that every method means alike."""
    for place, part in {"": cfg, "teacher.training.": cfg.teacher.training}.items():
        if not _is_integer(part.seed) or not 0 <= part.seed < 2**32:
            yield f"{place}seed={part.seed}: must be a whole number ≥ 0 and below 2**32"
        epochs = part.trainer.get("max_epochs")
        if not _is_integer(epochs) or epochs < 1:
            yield f"{place}trainer.max_epochs={epochs}: must be a whole number ≥ 1"
        for split in ("train", "val", "test"):
            if part.trainer.get(f"limit_{split}_batches") == 0:
                yield f"{place}trainer.limit_{split}_batches=0: a run needs all three splits"
    size = cfg.teacher.training.batch_size
    if not _is_integer(size) or size < 1:
        yield f"teacher.training.batch_size={size}: must be a whole number ≥ 1"
    yield from _cache(cfg)
    yield from _epoch(cfg)
    if is_ensemble(cfg):
        yield from settings_problems(cfg)
    if cfg.compile not in (None, *COMPILE):
        yield f"compile={cfg.compile}: there is no such mode; {nearest(cfg.compile, COMPILE)}"
    for key in ("channels_last", "keep_epochs"):
        if not isinstance(cfg[key], bool):
            yield f"{key}={cfg[key]}: must be true or false"
    for key in ("resume", "teacher.checkpoint", "student.checkpoint"):
        path = OmegaConf.select(cfg, key)
        if not isinstance(path, str | None):
            yield f"{key}={path}: must be a path"
    method = cfg.method
    if "temperature" in method and not (_is_number(method.temperature) and method.temperature > 0):
        yield f"method.temperature={method.temperature}: must be a number > 0, such as 4"
    if "alpha" in method and not (_is_number(method.alpha) and 0 <= method.alpha <= 1):
        yield (
            f"method.alpha={method.alpha}: must be in [0, 1]; it is the share of the soft term, "
            "and the hard labels get what is left"
        )
    if "beta" in method and not (_is_number(method.beta) and method.beta >= 0):
        yield f"method.beta={method.beta}: must be a number ≥ 0"


def _epoch(cfg: DictConfig) -> Iterator[str]:
    epoch, last = cfg.teacher.epoch, cfg.teacher.training.trainer.max_epochs
    if epoch is None:
        return
    if not _is_integer(epoch) or epoch < 1:
        yield f"teacher.epoch={epoch}: must be a whole number ≥ 1, or null for the best epoch"
    elif cfg.teacher.checkpoint is None and _is_integer(last) and epoch > last:
        yield (
            f"teacher.epoch={epoch}: the teacher is trained for {last} epochs; raise "
            "teacher.training.trainer.max_epochs, or stop it earlier"
        )


def _cache(cfg: DictConfig) -> Iterator[str]:
    cache, valid = cfg.teacher.cache, {"mode": MODES, "dtype": DTYPES}
    if not OmegaConf.is_config(cache):
        yield f"teacher.cache={cache}: in a file it is teacher.cache.mode, in quotes"
        return
    for key, choices in valid.items():
        if cache[key] not in choices:
            hint = nearest(cache[key], choices)
            yield f"teacher.cache.{key}={cache[key]}: there is no such {key}; {hint}"
    if not _is_number(cache.max_gb) or cache.max_gb <= 0:
        yield f"teacher.cache.max_gb={cache.max_gb}: must be a number > 0"


def _targets(node: Any, place: str) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield from _target(node, place)
        for key, value in node.items():
            yield from _targets(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _targets(value, f"{place}[{position}]")


def _target(node: dict[str, Any], place: str) -> Iterator[str]:
    try:
        parameters = _parameters(get_object(node["_target_"]))
    except Exception as error:  # an import can fail in any way
        yield f"{place}._target_={node['_target_']}: {root_cause(error)}"
        return
    for key, value in node.items():
        if key in _HYDRA_KEYS:
            continue
        if key in parameters:
            if not _is_a(value, parameters[key]):
                yield f"{place}.{key}={value}: must be {_name(parameters[key])}"
        elif ANY not in parameters:
            yield f"{place}.{key}: {node['_target_']} takes no {key!r}; {nearest(key, parameters)}"


def _parameters(target: Any) -> dict[str, Any]:
    """The keywords a target takes and their annotations; ANY among them where it takes any.

    A class whose constructor hands `**keywords` on takes those of its base as well.
    """
    found: dict[str, Any] = {}
    functions = [target]
    if inspect.isclass(target):
        functions = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)]
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        new = (p for p in parameters if p.name not in (*found, "self"))
        found |= {p.name: p.annotation for p in new}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found
    return found | {ANY: None}


def _is_a(value: Any, annotation: Any) -> bool:
    """Whether a value fits; annotations beyond numbers, flags and strings are not judged."""
    kinds = {*get_args(annotation)} if isinstance(annotation, UnionType) else {annotation}
    if not kinds <= {int, float, bool, str, NoneType}:
        return True
    return type(value) in kinds or (type(value) is int and float in kinds)


def _name(annotation: Any) -> str:
    return getattr(annotation, "__name__", str(annotation))


def _method(cfg: DictConfig) -> Iterator[str]:
    objectives, stages = cfg.method.objectives, stage_configs(cfg)
    weighted = {name for stage in stages for name in stage.weights}
    # What another way of training weighs is not forgotten.
    weighted_ever = weighted | set(cfg.method.get("weights") or ())
    for name in objectives.keys() - weighted_ever:
        yield f"method.objectives.{name} has no weight; add method.weights.{name}"
    for stage in stages:
        for name in sorted(stage.weights):
            if name not in objectives:
                yield f"{stage.place}.{name} names no objective; {nearest(name, objectives)}"
                continue
            weight = stage.weights[name]
            if not _is_number(weight) and not isinstance(weight, DictConfig):
                yield f"{stage.place}.{name}={weight}: must be a number ≥ 0 or a schedule"
            elif _is_number(weight) and weight < 0:
                yield f"{stage.place}.{name}={weight}: must be ≥ 0{_share_hint(cfg)}"
        if all(weight == 0 for weight in stage.weights.values()):
            yield f"{stage.place} are all 0: nothing is left to train on"
    shares = {stage.name: stage.share for stage in stages}
    if not all(_is_number(share) and share > 0 for share in shares.values()):
        yield f"method.stages: every share must be a number > 0, got {shares}"
    elif abs(sum(shares.values()) - 1) > 1e-6:
        yield f"method.stages: the shares must make 1, got {shares}"
    for name in sorted(weighted & objectives.keys()):
        yield from _objective(cfg, name, all(s.weights.get(name, 0) == 0 for s in stages))


def _optimization(cfg: DictConfig, place: str) -> Iterator[str]:
    """Make optimizer and scheduler for a single number: they refuse bad values only when made."""
    try:
        build_optimizer(cfg.optimizer, [nn.Parameter(torch.zeros(1))])
        make(cfg.scheduler, "scheduler")
    except UserError as error:
        yield f"{place}{error}"


def _share_hint(cfg: DictConfig) -> str:
    both = "alpha" in cfg.method and "beta" in cfg.method
    return " (alpha + beta must be ≤ 1 where they share the loss with the labels)" if both else ""


def _objective(cfg: DictConfig, name: str, unused: bool) -> Iterator[str]:
    """Make the objective (it is cheap: its adapters come later) and look for what it needs."""
    place = f"method.objectives.{name}"
    try:
        objective: Objective = make(cfg.method.objectives[name], place)
    except UserError as error:
        yield str(error)
        return
    if unused:
        return
    augment = OmegaConf.select(cfg, "data.augment._target_")
    if objective.needs_labels and augment and get_object(augment).mixes:
        yield f"{place} reads labels, and data/augment={augment.split('.')[-1]} mixes them"
    mode = distiller_class(cfg)
    if mode.learner_offers is not None:
        offers = mode.learner_offers
        yield from _not_offered(cfg, place, "student", objective.student_taps, offers)
    else:
        yield from _unknown_taps(place, "student", objective.student_taps, cfg.student)
    if objective.needs_teacher:
        yield from _teacher_taps(cfg, place, objective)


def _not_offered(
    cfg: DictConfig, place: str, whose: str, wanted: tuple[str, ...], offers: tuple[str, ...]
) -> Iterator[str]:
    if lacking := [tap for tap in wanted if tap not in offers]:
        taps, valid = ", ".join(lacking), ", ".join(offers) or "logits alone"
        yield f"{place} reads the {whose}'s {taps}, and mode={cfg.mode.name} offers {valid}"


def _teacher_taps(cfg: DictConfig, place: str, objective: Objective) -> Iterator[str]:
    """Look for what an objective reads, in who teaches."""
    mode = distiller_class(cfg)
    if objective.copies_head and mode.taught_by != "teacher":
        yield f"{place} copies a trained teacher's classifier; mode={cfg.mode.name} has no such net"
    if mode.offers is not None:
        yield from _not_offered(cfg, place, "teacher", objective.teacher_taps, mode.offers)
    elif mode.taught_by == "peers":
        both = dict.fromkeys((*objective.student_taps, *objective.teacher_taps))
        for peer in (cfg.student, *peer_configs(cfg)):
            yield from _unknown_taps(place, "mode.peers", tuple(both), peer)
    elif mode.taught_by == "itself":
        yield from _unknown_taps(place, "student", objective.teacher_taps, cfg.student)
    elif is_ensemble(cfg):
        yield from taps_problem(cfg, place, objective.teacher_taps)
        yield from _unknown_taps(place, "teacher", objective.teacher_taps, cfg.teacher)
    elif cfg.teacher.net is None:
        yield f"{place} needs a teacher, and teacher={cfg.teacher.name}; name one, or method=ce"
    else:
        yield from _unknown_taps(place, "teacher", objective.teacher_taps, cfg.teacher)


def _mode(cfg: DictConfig) -> Iterator[str]:
    """Look for a teacher that the mode has no place for, or the other way round."""
    taught_by = distiller_class(cfg).taught_by
    name = cfg.teacher.name
    if taught_by == "teacher" and name in ("itself", "peers"):
        yield f"teacher={name}: mode={cfg.mode.name} has a teacher of its own; name a model"
    if taught_by != "teacher" and name != taught_by:
        whom = "by itself" if taught_by == "itself" else "by the nets of mode.peers"
        yield (
            f"teacher={name}: with mode={cfg.mode.name} the student is taught {whom}; "
            f"leave teacher out, or choose mode=offline"
        )
    if taught_by == "peers":
        peer_configs(cfg)  # refuses what is no list of models


def _schedules(cfg: DictConfig) -> Iterator[str]:
    """Look for schedules that nothing would follow."""
    method = cfg.method
    try:
        schedules = build_schedules(cfg)
        build_objectives(cfg)
    except UserError as error:
        yield str(error)
        return
    knobs = [key for key, value in plain(method).items() if _is_number(value)]
    for name, schedule in schedules.items():
        place = f"method.schedules.{name}"
        if name in method.objectives:
            continue
        if name not in knobs:
            yield f"{place}: no such term or knob; {nearest(name, [*method.objectives, *knobs])}"
        elif name == "temperature":
            if min(schedule(step / 100) for step in range(101)) <= 0:
                yield f"{place}: a temperature must stay > 0; give it an end or a begin above 0"
        elif not any(_enters(cfg, stage, name) for stage in stage_configs(cfg)):
            yield f"{place}: {name} enters no weight, so that nothing would follow"


def _enters(cfg: DictConfig, stage: StageConfig, knob: str) -> bool:
    """Whether a knob has a part in any weight of a stage."""
    return plain(stage.without(cfg, knob)) != plain(stage.weights)


def _unknown_taps(place: str, role: str, wanted: tuple[str, ...], net: DictConfig) -> Iterator[str]:
    for tap in wanted:
        if tap not in net.taps:
            yield f"{place}: no tap {tap!r} in {role}={net.name}; {nearest(tap, net.taps)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
