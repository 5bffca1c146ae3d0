"""Objectives, stages, weights and schedules of a method, built from its config."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kd.build.data import data_task
from kd.build.instantiate import make
from kd.config.compose import plain
from kd.distillers.stages import Plan, Stage, Weight
from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.token_maps import with_maps
from kd.schedules import Between, Schedule
from kd.tasks.base import Task
from kd.types import Outputs

CROSS_ENTROPY = "kd.objectives.ce.CrossEntropy"


class StageConfig(NamedTuple):
    """The config of one stage of a method.

    Attributes:
        name: empty for a method without stages.
        share: of the run's steps, in (0, 1].
        weights: of the terms, by name.
        place: the weights' place in the config.
    """

    name: str
    share: float
    weights: DictConfig
    place: str

    def changed(self, cfg: DictConfig, knob: str, value: float) -> DictConfig:
        """Return the stage's weights with another value of the method's setting `knob`."""
        other = copy.deepcopy(cfg)
        other.method[knob] = value
        weights: DictConfig = OmegaConf.select(other, self.place)
        return weights


def stage_configs(cfg: DictConfig) -> list[StageConfig]:
    """Return the stages of a share > 0; a single one without a name for a method without stages.

    `method.joint=true` trains the terms of all stages at once, with `method.weights`.
    """
    method = cfg.method
    if not method.get("stages") or method.get("joint"):
        return [StageConfig("", 1.0, method.weights, "method.weights")]
    return [
        StageConfig(stage.name, stage.share, stage.weights, f"method.stages[{n}].weights")
        for n, stage in enumerate(method.stages)
        if stage.share != 0
    ]


def vanishes(cfg: DictConfig, name: str, alpha: float) -> bool:
    """Return whether a term of the config has the weight 0 if `method.alpha` is `alpha`."""
    if name not in cfg.method.objectives:  # one of a given method
        return False
    if not isinstance(OmegaConf.select(cfg, "method.alpha"), int | float):
        return False
    stages = stage_configs(cfg)
    return all(stage.changed(cfg, "alpha", alpha).get(name, 0) == 0 for stage in stages)


class Method(NamedTuple):
    """The terms of a loss, ready to train with.

    Attributes:
        objectives: the terms by name, without those whose weight is 0 in every stage.
        plan: the stages of the run with the terms' weights.
    """

    objectives: dict[str, Objective]
    plan: Plan

    @property
    def needs_teacher(self) -> bool:
        """Whether any term reads a teacher's outputs."""
        return any(objective.needs_teacher for objective in self.objectives.values())

    @property
    def teacher_taps(self) -> list[str]:
        """The teacher's taps that the terms read."""
        return [tap for term in self.objectives.values() for tap in term.teacher_taps]

    def select_taps(self, teacher: Outputs, inputs: Tensor) -> list[str]:
        """Let the terms drop taps by the teacher's outputs for `inputs`; return those they read."""
        for term in self.objectives.values():
            term.select_taps(with_maps(term, term.aligned(teacher), inputs))
        return self.teacher_taps


def build_method(cfg: DictConfig) -> Method:
    """Build the objectives of `cfg.method` and the plan of their weights.

    Raises:
        UserError: an objective, a schedule or the stages refuse their settings.
    """
    plan = build_plan(cfg, build_schedules(cfg))
    return Method({name: build_objective(cfg, name) for name in plan.terms}, plan)


def build_objective(cfg: DictConfig, name: str, task: Task | None = None) -> Objective:
    """Build one objective; its adapters come later, when the shapes of both nets are known.

    Cross-entropy with the labels stands for the labels' loss of the task.

    Args:
        cfg: the run's config.
        name: of the objective.
        task: of data that are given; None: that of the data in the config.
    """
    node, task = cfg.method.objectives[name], task or data_task(cfg)
    if task.label_loss is not None and node.get("_target_") == CROSS_ENTROPY:
        node = OmegaConf.create(dict(task.label_loss))
    objective: Objective = make(node, "method.objectives.*", f"method.objectives.{name}")
    return objective


def build_plan(cfg: DictConfig, schedules: Mapping[str, Schedule]) -> Plan:
    """Build the stages and their weights, without terms of weight 0."""
    stages = []
    for stage in stage_configs(cfg):
        weights = {k: _weight(cfg, stage, k, schedules) for k in map(str, stage.weights)}
        stages.append(Stage(stage.name, stage.share, {k: w for k, w in weights.items() if w != 0}))
    try:
        return Plan(stages, _settings(cfg, schedules))
    except ValueError as error:
        raise UserError(f"method.stages: {error}") from error


def arguments(cfg: DictConfig, knob: str) -> list[tuple[str, str]]:
    """Return the objectives' arguments that depend on a number among the method's settings.

    Returns:
        Pairs of the objective's name and the argument's.
    """
    other = copy.deepcopy(cfg)
    other.method[knob] = cfg.method[knob] + 1
    before, after = plain(cfg.method.objectives), plain(other.method.objectives)
    return [
        (name, argument)
        for name, leaf in before.items()
        for argument, value in leaf.items()
        if after[name][argument] != value
    ]


def _settings(cfg: DictConfig, schedules: Mapping[str, Schedule]) -> dict[str, dict[str, Schedule]]:
    """Return the schedules of the objectives' arguments, by the names of objective and argument."""
    found: dict[str, dict[str, Schedule]] = {}
    for knob, schedule in schedules.items():
        if knob in cfg.method and knob not in cfg.method.objectives:
            for name, argument in arguments(cfg, knob):
                found.setdefault(name, {})[argument] = schedule
    return found


def build_schedules(cfg: DictConfig) -> dict[str, Schedule]:
    """Build `method.schedules`: a schedule by the name of the term or setting that it varies."""
    configured = cfg.method.get("schedules") or {}
    return {
        str(name): _schedule(leaf, f"method.schedules.{name}") for name, leaf in configured.items()
    }


def _schedule(cfg: Any, place: str) -> Schedule:
    schedule: Schedule = make(cfg, "method.schedules.*", place)
    return schedule


def _weight(
    cfg: DictConfig, stage: StageConfig, name: str, schedules: Mapping[str, Schedule]
) -> Weight:
    """Return a term's weight: a number, or a schedule that varies it.

    Weights are interpolations such as `${one_minus:${method.alpha}}`. A schedule of alpha varies
    each weight that depends on alpha, between its value for alpha = 0 and the configured one.
    """
    weight, place = stage.weights[name], f"{stage.place}.{name}"
    # The value at the schedule's other end: 0 for the term's own schedule, and for a setting's the
    # weight without that setting.
    ends = {name: 0.0} | {
        knob: stage.changed(cfg, knob, 0.0)[name]
        for knob in schedules
        if knob in cfg.method and knob not in cfg.method.objectives
    }
    moving = [by for by in schedules if by in ends and ends[by] != weight]
    if not isinstance(weight, int | float):
        moving.append(place)
    if len(moving) > 1:
        raise UserError(f"{place} is varied by {len(moving)} schedules: {', '.join(moving)}")
    if not moving:
        return float(weight)
    if moving == [place]:
        return _schedule(weight, place)
    return Between(schedules[moving[0]], float(ends[moving[0]]), float(weight))
