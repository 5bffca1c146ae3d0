"""A method: its terms, weights and stages, and the schedules that move them."""

from collections.abc import Iterator

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from kd.build.instantiate import make
from kd.build.method import StageConfig, build_objectives, build_schedules, stage_configs
from kd.config.compose import plain
from kd.errors import UserError, nearest
from kd.objectives.base import Objective
from kd.validation.mode import tap_problems
from kd.validation.numbers import is_number


def method_problems(cfg: DictConfig) -> Iterator[str]:
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
            if not is_number(weight) and not isinstance(weight, DictConfig):
                yield f"{stage.place}.{name}={weight}: must be a number ≥ 0 or a schedule"
            elif is_number(weight) and weight < 0:
                yield f"{stage.place}.{name}={weight}: must be ≥ 0{_share_hint(cfg)}"
        if all(weight == 0 for weight in stage.weights.values()):
            yield f"{stage.place} are all 0: nothing is left to train on"
    shares = {stage.name: stage.share for stage in stages}
    if not all(is_number(share) and share > 0 for share in shares.values()):
        yield f"method.stages: every share must be a number > 0, got {shares}"
    elif abs(sum(shares.values()) - 1) > 1e-6:
        yield f"method.stages: the shares must make 1, got {shares}"
    for name in sorted(weighted & objectives.keys()):
        yield from _objective(cfg, name, all(s.weights.get(name, 0) == 0 for s in stages))


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
    yield from tap_problems(cfg, place, objective)


def schedule_problems(cfg: DictConfig) -> Iterator[str]:
    """Look for schedules that nothing would follow."""
    method = cfg.method
    try:
        schedules = build_schedules(cfg)
        build_objectives(cfg)
    except UserError as error:
        yield str(error)
        return
    knobs = [key for key, value in plain(method).items() if is_number(value)]
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
