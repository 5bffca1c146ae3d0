"""Config -> objects, one leaf at a time: the only place that calls `hydra.utils.instantiate`."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from torch import nn

from kd.callbacks import LogHyperparameters
from kd.config import plain
from kd.data.module import ImageDataModule
from kd.distillers.base import Distiller
from kd.distillers.stages import Plan, Stage, Weight
from kd.doctor import Doctor
from kd.errors import UserError
from kd.objectives.base import Objective
from kd.schedules import Schedule


def make(cfg: Any, place: str, **extra: Any) -> Any:
    """Call what `cfg._target_` names with plain keyword arguments and `extra`.

    Raises:
        UserError: the target refuses its arguments; names the config's place.
    """
    try:
        return instantiate(cfg, _convert_="all", _partial_=True)(**extra)
    except InstantiationException as error:
        raise UserError(f"{place}: {root_cause(error)}") from error
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"{place}: {error}") from error


def root_cause(error: BaseException) -> BaseException:
    """The first exception of a chain: what really happened, below Hydra's wrapping."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def build_data(cfg: DictConfig) -> ImageDataModule:
    """Make the data module, with its data in memory and split."""
    data: ImageDataModule = make(cfg.data, "data")
    data.prepare_data()
    data.setup()
    return data


def build_net(cfg: DictConfig, role: str, data: ImageDataModule) -> nn.Module:
    """Make the net `cfg.<role>` for the data's channels, size and classes."""
    net: nn.Module = make(
        cfg[role].net,
        f"{role}={cfg[role].name}",
        in_channels=data.in_channels,
        image_size=data.image_size,
        num_classes=data.num_classes,
    )
    if cfg.channels_last:
        net.to(memory_format=torch.channels_last)
    return net


class StageConfig(NamedTuple):
    """One stage of a method as configured: name, share, weights, and where these stand."""

    name: str
    share: float
    weights: DictConfig
    place: str


def stage_configs(cfg: DictConfig) -> list[StageConfig]:
    """The method's stages; one without a name where it has none, or is to train jointly."""
    method = cfg.method
    if not method.get("stages") or method.get("joint"):
        return [StageConfig("", 1.0, method.weights, "method.weights")]
    return [
        StageConfig(stage.name, stage.share, stage.weights, f"method.stages[{n}].weights")
        for n, stage in enumerate(method.stages)
        if stage.share != 0
    ]


def build_objectives(cfg: DictConfig) -> tuple[dict[str, Objective], Plan]:
    """Make the method's terms and the plan of their weights; a term of weight 0 is left out."""
    configs = stage_configs(cfg)
    stages = [
        Stage(c.name, c.share, {k: w for k in map(str, c.weights) if (w := _weight(c, k)) != 0})
        for c in configs
    ]
    used = {name: None for stage in stages for name in stage.weights}
    objectives = {
        name: make(cfg.method.objectives[name], f"method.objectives.{name}") for name in used
    }
    try:
        return objectives, Plan(stages)
    except ValueError as error:
        raise UserError(f"method.stages: {error}") from error


def _weight(stage: StageConfig, name: str) -> Weight:
    weight, place = stage.weights[name], f"{stage.place}.{name}"
    if isinstance(weight, int | float):
        return float(weight)
    schedule = make(weight, place)
    if not isinstance(schedule, Schedule):
        raise UserError(f"{place}: {type(schedule).__name__} is no schedule of kd.schedules")
    return schedule


def build_distiller(cfg: DictConfig, **parts: Any) -> Distiller:
    """Make the mode's LightningModule from its parts."""
    distiller: Distiller = make(
        cfg.mode.distiller,
        f"mode={cfg.mode.name}",
        places=plain(cfg.student.taps),
        optimizer=partial(build_optimizer, cfg.optimizer),
        scheduler=make(cfg.scheduler, "scheduler"),
        **parts,
    )
    return distiller


def build_optimizer(cfg: DictConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer for these parameters."""
    optimizer: torch.optim.Optimizer = make(cfg, "optimizer", params=parameters)
    return optimizer


def build_trainer(cfg: DictConfig, folder: Path, hparams: dict[str, Any]) -> Trainer:
    """Make the Trainer with the configured loggers and callbacks, writing below `folder`.

    Args:
        cfg: the run's config.
        folder: the run's folder.
        hparams: flat plain settings for TensorBoard's HPARAMS tab.
    """
    _check_accelerator(str(cfg.trainer.accelerator))
    loggers = [make(leaf, f"logger.{k}") for k, leaf in cfg.logger.items() if leaf]
    # Lightning refuses these two where there is nothing for them to do.
    idle = {"progress": not cfg.trainer.enable_progress_bar, "learning_rate": not loggers}
    wanted = {k: leaf for k, leaf in cfg.callbacks.items() if leaf and not idle.get(k)}
    callbacks = [make(leaf, f"callbacks.{k}") for k, leaf in wanted.items()]
    if cfg.doctor:
        callbacks.append(Doctor())
    trainer: Trainer = make(
        cfg.trainer,
        "trainer",
        callbacks=[LogHyperparameters(hparams), *callbacks],
        logger=loggers,
        default_root_dir=folder,
    )
    return trainer


def _check_accelerator(name: str) -> None:
    """Refuse here what Lightning refuses in words of its own, and say what there is instead."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = {"auto": True, "cpu": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if not here.get(name, name == "tpu"):
        available = ", ".join(sorted(k for k, v in here.items() if v))
        raise UserError(
            f"trainer.accelerator={name}: not on this machine; it has {available} "
            "(trainer=auto takes the best)"
        )
