"""Checks of a method: its objectives, weights and stages, and the schedules that vary them."""

from collections.abc import Iterator, Mapping
from functools import partial

from omegaconf import DictConfig, OmegaConf

from kd.build.method import (
    CROSS_ENTROPY,
    Method,
    StageConfig,
    build_objective,
    build_plan,
    build_schedules,
    stage_configs,
)
from kd.build.parts import distiller_class
from kd.config.targets import resolve_target
from kd.errors import UserError, nearest
from kd.objectives.base import Objective
from kd.tasks import TASKS
from kd.tasks.base import Task
from kd.validation.augment import mixing_problems
from kd.validation.mode import tap_problems
from kd.validation.numbers import is_number
from kd.validation.problems import attempt, listed, refuse
from kd.validation.schedules import range_problems, schedule_problems

# Precisions of Lightning in which the nets' weights are not float32
_OTHER_WEIGHTS = (
    *("16-true", "bf16-true", "64-true", "64"),
    *("transformer-engine", "transformer-engine-float16"),
)


def weight_problems(cfg: DictConfig) -> Iterator[str]:
    """Find weights without an objective, objectives without a weight, and wrong values."""
    objectives, stages = cfg.method.objectives, stage_configs(cfg)
    # `method.weights` counts as well while a method trains in stages: `method.joint=true` uses it.
    weighted = {*_weighted(stages), *(cfg.method.get("weights") or ())}
    for name in objectives.keys() - weighted:
        yield f"method.objectives.{name} has no weight; add method.weights.{name}"
    for stage in stages:
        yield from _stage_problems(cfg, stage)
    shares = {stage.name: stage.share for stage in stages}
    if not all(is_number(share) and share > 0 for share in shares.values()):
        yield f"method.stages: every share must be a number > 0, got {shares}"
    elif abs(sum(shares.values()) - 1) > 1e-6:  # 1/3 + 2/3 as written in YAML
        yield f"method.stages: the shares must sum to 1, got {shares}"


def _weighted(stages: list[StageConfig]) -> set[str]:
    return {str(name) for stage in stages for name in stage.weights}


def _stage_problems(cfg: DictConfig, stage: StageConfig) -> Iterator[str]:
    objectives = cfg.method.objectives
    for name in sorted(stage.weights):
        weight = stage.weights[name]
        if name not in objectives:
            yield f"{stage.place}.{name} names no objective; {nearest(name, objectives)}"
        elif not is_number(weight) and not isinstance(weight, DictConfig):
            yield f"{stage.place}.{name}={weight}: must be a number ≥ 0 or a schedule"
        elif is_number(weight) and weight < 0:
            yield f"{stage.place}.{name}={weight}: must be ≥ 0{_sum_hint(cfg)}"
    if all(weight == 0 for weight in stage.weights.values()):
        yield f"{stage.place} are all 0: nothing is left to train on"


def _sum_hint(cfg: DictConfig) -> str:
    both = "alpha" in cfg.method and "beta" in cfg.method
    return " (alpha + beta must be ≤ 1 where they share the loss with the labels)" if both else ""


def check_objectives(
    cfg: DictConfig, problems: list[str], task: Task | None = None
) -> dict[str, Objective]:
    """Build the objectives, which is cheap: their adapters come later.

    An objective of weight 0 is built as well, so that its mistakes are reported, but not returned.
    """
    stages = stage_configs(cfg)
    found: dict[str, Objective] = {}
    for name in sorted(_weighted(stages) & cfg.method.objectives.keys()):
        used = any(s.weights.get(name, 0) != 0 for s in stages)
        if used and task is not None and (problem := misfit(cfg, name, task)):
            problems.append(problem)  # its taps would be missing as well
            continue
        objective = attempt(problems, partial(build_objective, cfg, name, task))
        if objective is not None and used:
            found[name] = objective
    return found


def misfit(cfg: DictConfig, name: str, task: Task) -> str:
    """Why an objective cannot compare the nets of a task; "" if it can."""
    target = OmegaConf.select(cfg, f"method.objectives.{name}._target_")
    if target == CROSS_ENTROPY:  # each task has its own in its place
        return ""
    try:
        kind = resolve_target(str(target))
    except Exception:  # an import can fail in any way; building the objective reports it
        return ""
    tasks = getattr(kind, "tasks", (task.name,))
    if task.name in tasks:
        return ""
    titles = " and ".join(TASKS[each].title for each in tasks if each in TASKS)
    return (
        f"method.objectives.{name}: {kind.__name__} is for {titles}, and data={cfg.data.name} is "
        f"for {task.title}; choose a method of that task, such as method={task.method}"
    )


def objective_problems(cfg: DictConfig, objectives: Mapping[str, Objective]) -> Iterator[str]:
    """Find inputs of objectives that the data, the student or the teacher do not provide."""
    for name, objective in objectives.items():
        place = f"method.objectives.{name}"
        if objective.needs_labels:
            yield from mixing_problems(cfg, place)
        yield from tap_problems(cfg, place, objective)


def teacher_problems(cfg: DictConfig, objectives: Mapping[str, Objective]) -> Iterator[str]:
    """Find a method that runs a teacher which none of its terms reads, so that none is loaded."""
    read = any(objective.needs_teacher for objective in objectives.values())
    if objectives and distiller_class(cfg).runs_teacher and not read:
        yield (
            f"method={cfg.method.name}: no term of a weight other than 0 reads the teacher; choose "
            "a method.alpha above 0"
        )


def precision_problems(cfg: DictConfig, objectives: Mapping[str, Objective]) -> Iterator[str]:
    """Find weights of another format than float32, for terms that compare with a teacher."""
    precision = str(cfg.trainer.get("precision"))
    if precision in _OTHER_WEIGHTS and any(term.needs_teacher for term in objectives.values()):
        yield (
            f"trainer.precision={precision}: keeps weights in another format than float32, which "
            f"the outputs of teachers and the adapters of method={cfg.method.name} have; use "
            "trainer.precision=bf16-mixed or 32-true"
        )


def check_method(cfg: DictConfig, objectives: Mapping[str, Objective]) -> Method:
    """Build the plan of the objectives' weights, and check what its schedules vary.

    Args:
        cfg: a config without `weight_problems`.
        objectives: those of a weight other than 0.

    Raises:
        UserError: lists every mistake.
    """
    try:
        schedules = build_schedules(cfg)
    except UserError as error:
        raise UserError(listed([str(error)])) from error
    refuse(schedule_problems(cfg, schedules, objectives))
    try:
        plan = build_plan(cfg, schedules)
    except UserError as error:
        raise UserError(listed([str(error)])) from error
    refuse(range_problems(plan))
    return Method({name: objectives[name] for name in plan.terms}, plan)
