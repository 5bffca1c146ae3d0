"""Checks of a config before a run: all mistakes at once, before any data is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

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
from kd.schedules import Schedule
from kd.validation.ensemble import combination_problems
from kd.validation.method import (
    check_method,
    check_objectives,
    objective_problems,
    weight_problems,
)
from kd.validation.mode import mode_problems
from kd.validation.problems import attempt, refuse
from kd.validation.signatures import target_problems
from kd.validation.values import value_problems

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
    refuse(_missing(cfg))
    refuse([*value_problems(cfg), *target_problems(_plain(cfg))])
    # From here on every value has its type, and every `_target_` can be called.
    problems = [*mode_problems(cfg, given)]
    if is_ensemble(cfg):
        problems += combination_problems(cfg)
    if given.method is None:
        problems += weight_problems(cfg)
        objectives = check_objectives(cfg, problems)
    else:
        objectives = given.method.objectives
    problems += objective_problems(cfg, objectives)
    scheduler = _check_optimization(cfg, "", problems)
    _check_optimization(cfg.teacher.training, "teacher.training.", problems)
    refuse(problems)
    assert scheduler is not None  # or there was a problem
    return CheckedConfig(cfg, given.method or check_method(cfg, objectives), scheduler)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        content: dict[str, Any] = plain(cfg)
        return content | {"data": adapted(content["data"])}
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {root_cause(error)}") from error


def _missing(cfg: DictConfig) -> Iterator[str]:
    for key in sorted(OmegaConf.missing_keys(cfg)):
        yield f"{key} has no value; give it as {key}=…"


def _check_optimization(cfg: DictConfig, place: str, problems: list[str]) -> Schedule | None:
    """Build the optimizer, for a single number, and the scheduler: both check their values then."""
    number = nn.Parameter(torch.zeros(1))
    attempt(problems, partial(build_optimizer, cfg.optimizer, [number]), place)
    return attempt(problems, partial(make, cfg.scheduler, "scheduler"), place)
