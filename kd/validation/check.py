"""The check before a run: every mistake of a config at once, before anything heavy happens."""

from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from kd.build.instantiate import make, root_cause
from kd.build.trainer import build_optimizer
from kd.config.compose import plain
from kd.config.members import is_ensemble
from kd.errors import UserError
from kd.validation.ensemble import combination_problems
from kd.validation.method import method_problems, schedule_problems
from kd.validation.mode import mode_problems
from kd.validation.signatures import target_problems
from kd.validation.values import value_problems


def check_config(cfg: DictConfig) -> None:
    """Import every `_target_`, bind its arguments, and check what only makes sense together.

    Raises:
        UserError: names every mistake with its place and the nearest valid choice.
    """
    problems = list(_missing(cfg)) or [*value_problems(cfg), *target_problems(_plain(cfg), "")]
    if not problems:
        problems = [
            *mode_problems(cfg),
            *(combination_problems(cfg) if is_ensemble(cfg) else ()),
            *method_problems(cfg),
            *_optimization(cfg, ""),
            *_optimization(cfg.teacher.training, "teacher.training."),
        ]
    problems = problems or list(schedule_problems(cfg))
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


def _optimization(cfg: DictConfig, place: str) -> Iterator[str]:
    """Make optimizer and scheduler for a single number: they refuse bad values only when made."""
    try:
        build_optimizer(cfg.optimizer, [nn.Parameter(torch.zeros(1))])
        make(cfg.scheduler, "scheduler")
    except UserError as error:
        yield f"{place}{error}"
