"""Checks of a config before a run: all mistakes at once, before any data is read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from kd.build.data import adapted
from kd.build.given import GivenParts
from kd.build.instantiate import make, root_cause
from kd.build.method import Method
from kd.build.trainer import build_optimizer
from kd.config.compose import plain
from kd.config.members import is_ensemble
from kd.errors import UserError
from kd.objectives.base import Objective
from kd.schedules import Schedule
from kd.validation.ensemble import combination_problems
from kd.validation.labels import label_problems
from kd.validation.method import (
    check_method,
    check_objectives,
    objective_problems,
    precision_problems,
    teacher_problems,
    weight_problems,
)
from kd.validation.mode import mode_problems
from kd.validation.monitors import monitor_problems
from kd.validation.optimizer import optimizer_problems
from kd.validation.problems import attempt, refuse
from kd.validation.schedules import rate_problems
from kd.validation.signatures import target_problems
from kd.validation.task import objective_task_problems, run_task, task_problems
from kd.validation.teacher_options import class_map_problems, update_problems
from kd.validation.values import value_problems
from kd.validation.views import view_problems

_NOTHING_GIVEN = GivenParts()


@dataclass(frozen=True)
class CheckedConfig:
    """A config without mistakes, and the parts that were built to find that out.

    The parts keep state (adapters, schedules that follow the validation accuracy), so a checked
    config serves one run.

    Attributes:
        cfg: the config as it was given.
        method: the objectives and the plan of their weights.
        scheduler: factor of the learning rate as a function of a stage's progress.
    """

    cfg: DictConfig
    method: Method
    scheduler: Schedule


def check_config(cfg: DictConfig, given: GivenParts = _NOTHING_GIVEN) -> CheckedConfig:
    """Import every `_target_`, bind its arguments, and check how the settings go together.

    Args:
        cfg: the composed config of a run.
        given: parts that the run has beside its config.

    Raises:
        UserError: lists every mistake with its place in the config and the nearest valid choice.
    """
    problems, objectives, scheduler = _examine(cfg, given)
    refuse(problems)
    assert scheduler is not None  # or there was a problem
    return CheckedConfig(cfg, given.method or check_method(cfg, objectives), scheduler)


def config_problems(cfg: DictConfig) -> list[str]:
    """Return what `check_config` refuses, one message for each mistake."""
    problems, objectives, _ = _examine(cfg, _NOTHING_GIVEN)
    if not problems:
        attempt(problems, partial(check_method, cfg, objectives))
    return problems


def _examine(
    cfg: DictConfig, given: GivenParts
) -> tuple[list[str], Mapping[str, Objective], Schedule | None]:
    """Return all problems, the objectives, and the scheduler if it can be built."""
    if problems := [*_missing(cfg)]:
        return problems, {}, None
    problems = [*value_problems(cfg)]
    found = {problem.partition("=")[0] for problem in problems}
    problems += [p for p in target_problems(_plain(cfg)) if not found & _same_value(cfg, p)]
    # A part with a wrong value is not built: its constructor would report the same mistake again.
    wrong = [problem.partition("=")[0].partition(":")[0] for problem in problems]
    parts = _Parts(cfg, given, problems, wrong)
    objectives = parts.objectives()
    scheduler = parts.optimization("")
    parts.optimization("teacher.training.")
    if parts.sound("callbacks", "method", "mode", "data"):
        problems += monitor_problems(cfg)
    return problems, objectives, scheduler


def _same_value(cfg: DictConfig, problem: str) -> set[str]:
    """Return the key of a wrong value, and the key to which it refers as in `seed: ${seed}`."""
    key, mark, _ = problem.partition("=")
    place, _, last = key.rpartition(".")
    try:
        parent = OmegaConf.select(cfg, place) if mark and place else None
    except OmegaConfBaseException:  # a key with dots or brackets in it
        return {key}
    if not isinstance(parent, DictConfig) or not OmegaConf.is_interpolation(parent, last):
        return {key}
    written = cast(dict[str, Any], OmegaConf.to_container(parent))[last]
    return {key, str(written).strip("${}")}


@dataclass(frozen=True)
class _Parts:
    """Checks that build a part, or relate several."""

    cfg: DictConfig
    given: GivenParts
    problems: list[str]
    wrong: list[str]

    def sound(self, *places: str) -> bool:
        """Whether no value below these places is wrong."""
        return not any(f"{key}.".startswith(f"{place}.") for key in self.wrong for place in places)

    def objectives(self) -> Mapping[str, Objective]:
        cfg, given = self.cfg, self.given
        if not self.sound("mode", "teacher", "student", "method", "data"):
            return {}
        self.problems.extend(mode_problems(cfg, given))
        tasks = [*task_problems(cfg, given)]
        self.problems.extend(tasks)
        if tasks:  # taps and objectives of another task would be reported as well
            return {}
        if is_ensemble(cfg):
            self.problems.extend(combination_problems(cfg))
        objectives: Mapping[str, Objective]
        if given.method is None:
            self.problems.extend(weight_problems(cfg))
            objectives = check_objectives(cfg, self.problems, run_task(cfg, given))
        else:
            objectives = given.method.objectives
        self.problems.extend(objective_task_problems(cfg, given, objectives))
        self.problems.extend(objective_problems(cfg, objectives))
        self.problems.extend(teacher_problems(cfg, objectives))
        self.problems.extend(precision_problems(cfg, objectives))
        self.problems.extend(optimizer_problems(cfg, objectives))
        self.problems.extend(view_problems(cfg, objectives))
        self.problems.extend(label_problems(cfg, given, objectives))
        self.problems.extend(class_map_problems(cfg, objectives))
        classifies = run_task(cfg, given).classifies
        self.problems.extend(update_problems(cfg, classifies, objectives))
        return objectives

    def optimization(self, place: str) -> Schedule | None:
        """Build the optimizer, for a single number, and the scheduler: both check their values."""
        cfg = self.cfg.teacher.training if place else self.cfg
        number = nn.Parameter(torch.zeros(1))
        if self.sound(f"{place}optimizer"):
            attempt(self.problems, partial(build_optimizer, cfg.optimizer, [number]), place)
        if self.sound(f"{place}scheduler"):
            scheduler = attempt(self.problems, partial(make, cfg.scheduler, "scheduler"), place)
            if isinstance(scheduler, Schedule):
                settings = plain(cfg.scheduler)
                self.problems.extend(rate_problems(f"{place}scheduler", settings, scheduler))
            return scheduler
        return None


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        content: dict[str, Any] = plain(cfg)
        return content | {"data": adapted(content["data"])}
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {root_cause(error)}") from error


def _missing(cfg: DictConfig) -> Iterator[str]:
    for key in sorted(OmegaConf.missing_keys(cfg)):
        yield f"{key} has no value; give it as {key}=…"
