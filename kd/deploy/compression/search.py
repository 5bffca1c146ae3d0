"""Compression at one or several pruning ratios; finished ones are kept when it is repeated."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from omegaconf import DictConfig

from kd.config.compose import plain
from kd.config.trust import given_trust
from kd.deploy.compression.compress import (
    Measured,
    check_plan,
    compress,
    method_config,
    plan_config,
    uncompressed,
)
from kd.deploy.compression.settings import Compression, check_ratio
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The compressions that a command asks for.

    Attributes:
        run: whose student is compressed.
        steps: how, each with the config of its run.
        output: folder of the table; a single compression has its run there as well.
        max_drop: the most accuracy that may be lost on validation, in points.
    """

    run: FinishedRun
    steps: list[tuple[Compression, DictConfig]]
    output: Path
    max_drop: float

    @classmethod
    def from_settings(cls, cfg: DictConfig) -> Self:
        """Read and check the settings of `conf/compress.yaml`, before anything is trained.

        Raises:
            UserError: a setting is impossible, or the run cannot be compressed.
        """
        if cfg.run is None:
            raise UserError("no run is given: add run=FOLDER")
        single = Compression(cfg.prune, cfg.ratio, cfg.quantise, cfg.max_drop)
        _check_number("max_epochs", cfg.max_epochs, int)
        _check_number("lr", cfg.lr, float)
        wanted = _walk(single, cfg) if cfg.walk else [single]
        run = FinishedRun(str(cfg.run), "run", given_trust(cfg))
        label = "search" if cfg.walk else single.label
        default = run.folder.with_name(f"{run.folder.name}_{label}")
        output = Path(str(cfg.output)) if cfg.output else default
        method = None if cfg.taught_by is None else method_config(str(cfg.taught_by))
        steps = []
        for each in wanted:
            folder = output / each.label if cfg.walk else output
            planned = plan_config(run, each, folder, method, cfg.max_epochs, cfg.lr)
            check_plan(run, planned)
            steps.append((each, planned))
        return cls(run, steps, output, float(cfg.max_drop))


def compress_all(plan: Plan) -> list[Measured]:
    """Run the compressions one after the other; the uncompressed student comes first."""
    students = [uncompressed(plan.run)]
    for compression, cfg in plan.steps:
        log.info(
            "%s: %d epochs at lr=%g, method=%s",
            *(compression.label, cfg.trainer.max_epochs, cfg.optimizer.lr, cfg.method.name),
        )
        students.append(compress(plan.run, compression, cfg))
    return students


def _walk(single: Compression, cfg: DictConfig) -> list[Compression]:
    if single.prune == "none":
        raise UserError("search=true walks pruning ratios; choose prune=channels or magnitude")
    ratios: Any = plain(cfg.ratios)
    if not isinstance(ratios, list) or not ratios:
        raise UserError(f"ratios={ratios}: must be a list such as [0.3,0.5]")
    for ratio in ratios:
        check_ratio("ratios", ratio)
    return [replace(single, ratio=ratio) for ratio in dict.fromkeys(sorted(ratios))]


def _check_number(name: str, value: Any, kind: type) -> None:
    allowed = (int,) if kind is int else (int, float)
    if value is not None and (type(value) not in allowed or value <= 0):
        raise UserError(f"{name}={value}: must be a number above 0")
