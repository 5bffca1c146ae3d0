"""Checks of schedules: each varies something, and within the range of what it varies."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig

from kd.build.method import StageConfig, arguments, stage_configs
from kd.config.compose import plain
from kd.distillers.stages import Plan
from kd.errors import nearest
from kd.objectives.base import Objective
from kd.schedules import Schedule
from kd.validation.numbers import is_number


def schedule_problems(
    cfg: DictConfig, schedules: Mapping[str, Schedule], objectives: Mapping[str, Objective]
) -> Iterator[str]:
    """Find schedules of what does not vary, and of settings that would leave their range.

    Args:
        cfg: a config without `weight_problems`.
        schedules: by the term or the setting that each varies.
        objectives: those of a weight other than 0.
    """
    if not schedules:
        return
    knobs = [key for key, value in plain(cfg.method).items() if is_number(value)]
    names = list(dict.fromkeys([*cfg.method.objectives, *knobs]))
    refusals = {name: refusal(cfg, name, objectives) for name in names}
    movable = [name for name, reason in refusals.items() if not reason]
    for name, schedule in schedules.items():
        place = f"method.schedules.{name}"
        if name not in names:
            yield f"{place}: no such term or knob; {nearest(name, movable)}"
        elif refusals[name]:
            yield f"{place}: {refusals[name]}; a schedule can vary {', '.join(movable)}"
        elif name not in cfg.method.objectives:
            yield from _setting_problems(cfg, name, schedule, objectives)


def refusal(cfg: DictConfig, name: str, objectives: Mapping[str, Objective]) -> str:
    """Return why a schedule cannot vary a term or a number of the method; empty if it can."""
    if name in cfg.method.objectives:
        return _term_refusal(cfg, name)
    varied = arguments(cfg, name)
    for term, argument in varied:
        if not _declared(cfg, name, term, argument, objectives):
            return f"{name} sets method.objectives.{term}.{argument}, which is constant in a run"
    dependent = [weight for stage in stage_configs(cfg) for weight in _weights(cfg, stage, name)]
    if any(isinstance(weight, DictConfig) for weight in dependent):
        return f"{name} is a setting of a schedule"
    if not varied and not dependent:
        return f"{name} enters no weight and no setting that varies in a run"
    if cfg.method[name] == 0:
        return f"{name} is 0, and a schedule is a factor of it"
    if not dependent and not any(term in objectives for term, _ in varied):
        return f"{name} is a setting of {varied[0][0]}, whose weight is 0"
    return ""


def _term_refusal(cfg: DictConfig, name: str) -> str:
    weights = [stage.weights.get(name, 0) for stage in stage_configs(cfg)]
    if any(isinstance(weight, DictConfig) for weight in weights):
        return f"the weight of {name} has a schedule already"
    return "" if any(weights) else f"the weight of {name} is 0"


def _declared(
    cfg: DictConfig, knob: str, term: str, argument: str, objectives: Mapping[str, Objective]
) -> bool:
    """Whether a setting is the argument itself, and the objective lets it vary."""
    same = plain(cfg.method.objectives[term])[argument] == cfg.method[knob]
    return same and (term not in objectives or argument in objectives[term].scheduled)


def _weights(cfg: DictConfig, stage: StageConfig, knob: str) -> list[float | DictConfig]:
    """Return the weights of a stage that depend on a number of the method."""
    before, after = plain(stage.weights), plain(stage.changed(cfg, knob, cfg.method[knob] + 1))
    return [stage.weights[name] for name, weight in before.items() if after[name] != weight]


def _setting_problems(
    cfg: DictConfig, knob: str, schedule: Schedule, objectives: Mapping[str, Objective]
) -> Iterator[str]:
    """Find values that an objective refuses for a setting that varies."""
    values = [cfg.method[knob] * factor for factor in schedule.bounds()]
    for term, argument in arguments(cfg, knob):
        try:
            for value in values if term in objectives else ():
                objectives[term].scheduled[argument](value)
        except ValueError as error:
            ends = " to ".join(f"{value:.4g}" for value in values)
            yield f"method.schedules.{knob} takes {knob} from {ends}: {error}"


def rate_problems(place: str, settings: Mapping[str, Any], schedule: Schedule) -> Iterator[str]:
    """Find a schedule that makes the learning rate negative, infinite or NaN at some step.

    A negative learning rate ascends the loss, and torch's optimizers check only the first one.

    Args:
        place: of its settings in the config.
        settings: its arguments.
        schedule: built from them.
    """
    reason = _leaves_range(schedule)
    if not reason:
        return
    numbers = {key: value for key, value in settings.items() if isinstance(value, int | float)}
    wrong = [(key, value) for key, value in numbers.items() if not 0 <= value < math.inf]
    given = ", ".join(f"{place}.{key}={value}" for key, value in wrong)
    given = given or f"{place}={settings.get('_target_', type(schedule).__name__)}"
    yield (
        f"{given}: the learning rate, as a multiple of optimizer.lr, would {reason}; all its "
        "values must be finite and ≥ 0"
    )


def range_problems(plan: Plan) -> Iterator[str]:
    """Find weights that a schedule makes negative, infinite or NaN."""
    for stage in plan.stages:
        for name, weight in stage.weights.items():
            reason = _leaves_range(weight) if isinstance(weight, Schedule) else ""
            if reason:
                of = f" in stage {stage.name!r}" if stage.name else ""
                yield (
                    f"method.schedules: the weight of {name}{of} would {reason}; give "
                    "the schedule a value, begin and end with which all weights stay ≥ 0"
                )


def _leaves_range(schedule: Schedule) -> str:
    """Return how a factor becomes negative or no finite number; empty if it does not."""
    try:
        lowest, highest = schedule.bounds()
    except OverflowError:  # gamma=1e200 at two milestones
        return "grow beyond all floating-point numbers"
    if math.isnan(lowest) or math.isnan(highest) or math.isinf(highest):
        return f"become {highest}"
    return f"fall to {lowest:.4g}" if lowest < -1e-9 else ""  # rounding of 1 − alpha
