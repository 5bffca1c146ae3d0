"""Config -> objects, one leaf at a time: the only place that calls `hydra.utils.instantiate`."""

import copy
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim.optimizer import ParamsT

from kd.callbacks.checkpoint import Checkpoints, WholeCheckpoints
from kd.callbacks.gradient_norms import Doctor
from kd.callbacks.progress import KeepEpochs, LogHyperparameters
from kd.config.compose import config_hash, model_config, plain
from kd.config.targets import allowed_target, targets
from kd.data.datamodule import ImageDataModule
from kd.distillers.base import Distiller
from kd.distillers.pairing import Peer
from kd.distillers.stages import Plan, Stage, Weight
from kd.errors import UserError
from kd.objectives.base import Objective
from kd.schedules import Between, Schedule


def make(cfg: Any, place: str, **extra: Any) -> Any:
    """Call what `cfg._target_` names with plain keyword arguments and `extra`.

    Raises:
        UserError: the target refuses its arguments; names the config's place.
    """
    try:
        for name in targets(plain(cfg)):  # also of nets that no check of the config has seen
            allowed_target(name)
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


def build_net(
    cfg: DictConfig, role: str, data: ImageDataModule, model: DictConfig | None = None
) -> nn.Module:
    """Make the net `cfg.<role>`, or `model` in that role, for the data at hand."""
    model = cfg[role] if model is None else model
    net: nn.Module = make(
        model.net,
        f"{role}={model.name}",
        in_channels=data.in_channels,
        image_size=data.image_size,
        num_classes=data.num_classes,
    )
    if cfg.channels_last:
        net.to(memory_format=torch.channels_last)
    return net


def peer_configs(cfg: DictConfig) -> list[DictConfig]:
    """The models of `mode.peers`, in their order; `student` stands for another such net.

    Raises:
        UserError: there is no such model, or none is named.
    """
    if not OmegaConf.is_list(cfg.mode.peers) or not cfg.mode.peers:
        raise UserError(f"mode.peers={cfg.mode.peers}: must name at least one model, as [student]")
    try:
        return [cfg.student if name == "student" else model_config(name) for name in cfg.mode.peers]
    except UserError as error:
        raise UserError(f"mode.peers={list(cfg.mode.peers)}: {error}") from error


def build_peers(cfg: DictConfig, data: ImageDataModule) -> list[Peer]:
    """Make the nets that learn beside the student."""
    return [
        Peer(model.name, build_net(cfg, "mode.peers", data, model), plain(model.taps))
        for model in peer_configs(cfg)
    ]


class StageConfig(NamedTuple):
    """One stage of a method as configured: name, share, weights, and where these stand."""

    name: str
    share: float
    weights: DictConfig
    place: str

    def without(self, cfg: DictConfig, knob: str) -> DictConfig:
        """The stage's weights if the method's `knob` were 0."""
        other = copy.deepcopy(cfg)
        other.method[knob] = 0.0
        weights: DictConfig = OmegaConf.select(other, self.place)
        return weights


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
    schedules = build_schedules(cfg)
    stages = []
    for stage in stage_configs(cfg):
        weights = {k: _weight(cfg, stage, k, schedules) for k in map(str, stage.weights)}
        stages.append(Stage(stage.name, stage.share, {k: w for k, w in weights.items() if w != 0}))
    used = {name: None for stage in stages for name in stage.weights}
    objectives = {
        name: make(cfg.method.objectives[name], f"method.objectives.{name}") for name in used
    }
    try:
        return objectives, Plan(stages, schedules.get("temperature"))
    except ValueError as error:
        raise UserError(f"method.stages: {error}") from error


def build_schedules(cfg: DictConfig) -> dict[str, Schedule]:
    """Make what `method.schedules` says of the method's terms and knobs, by their names."""
    configured = cfg.method.get("schedules") or {}
    return {
        str(name): _schedule(leaf, f"method.schedules.{name}") for name, leaf in configured.items()
    }


def _schedule(cfg: Any, place: str) -> Schedule:
    schedule = make(cfg, place)
    if not isinstance(schedule, Schedule):
        raise UserError(f"{place}: {type(schedule).__name__} is no schedule of kd.schedules")
    return schedule


def _weight(
    cfg: DictConfig, stage: StageConfig, name: str, schedules: Mapping[str, Schedule]
) -> Weight:
    """A term's weight, moved by the schedule of the term or of a knob that enters the weight."""
    weight, place = stage.weights[name], f"{stage.place}.{name}"
    ends = {name: 0.0} | {
        knob: stage.without(cfg, knob)[name]
        for knob in schedules
        if knob in cfg.method and knob not in cfg.method.objectives
    }
    moving = [by for by in schedules if by in ends and ends[by] != weight]
    if not isinstance(weight, int | float):
        moving.append(place)
    if len(moving) > 1:
        raise UserError(f"{place} would follow {len(moving)} schedules: {', '.join(moving)}")
    if not moving:
        return float(weight)
    if moving == [place]:
        return _schedule(weight, place)
    return Between(schedules[moving[0]], float(ends[moving[0]]), float(weight))


def distiller_class(cfg: DictConfig) -> type[Distiller]:
    """The mode's LightningModule."""
    found: type[Distiller] = get_object(cfg.mode.distiller._target_)
    return found


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


def build_optimizer(cfg: DictConfig, parameters: ParamsT) -> torch.optim.Optimizer:
    """Make the optimizer for these parameters, or groups of them."""
    optimizer: torch.optim.Optimizer = make(cfg, "optimizer", params=parameters)
    return optimizer


def build_trainer(
    cfg: DictConfig, folder: Path, hparams: dict[str, Any], more: Sequence[Callback] = ()
) -> Trainer:
    """Make the Trainer with the configured loggers and callbacks, writing below `folder`.

    Args:
        cfg: the run's config.
        folder: the run's folder.
        hparams: flat plain settings for TensorBoard's HPARAMS tab.
        more: callbacks beside the configured ones.
    """
    _check_accelerator(str(cfg.trainer.accelerator), cfg.trainer.devices)
    loggers = [make(leaf, f"logger.{k}") for k, leaf in cfg.logger.items() if leaf]
    # Lightning refuses these two where there is nothing for them to do.
    idle = {"progress": not cfg.trainer.enable_progress_bar, "learning_rate": not loggers}
    wanted = {k: leaf for k, leaf in cfg.callbacks.items() if leaf and not idle.get(k)}
    callbacks = [make(leaf, f"callbacks.{k}") for k, leaf in wanted.items()]
    if cfg.doctor:
        callbacks.append(Doctor())
    if cfg.keep_epochs:
        callbacks.append(KeepEpochs(folder))
    every, identity = cfg.checkpoint.every_minutes, config_hash(cfg)
    checkpoints = Checkpoints(folder / "checkpoints", every, identity)
    strict = {"deterministic": True} if cfg.deterministic == "strict" else {}
    if strict:  # cuBLAS reads it when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    trainer: Trainer = make(
        cfg.trainer,
        "trainer",
        callbacks=[LogHyperparameters(hparams), *callbacks, *more, checkpoints],
        plugins=[WholeCheckpoints()],
        logger=loggers,
        default_root_dir=folder,
        **strict,
    )
    return trainer


def _check_accelerator(name: str, devices: Any) -> None:
    """Refuse here what Lightning refuses in words of its own, and say what there is instead."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = {"auto": True, "cpu": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if not here.get(name, name == "tpu"):
        available = ", ".join(sorted(k for k, v in here.items() if v))
        raise UserError(
            f"trainer.accelerator={name}: not on this machine; it has {available} "
            "(trainer=auto takes the best)"
        )
    cores = max(os.cpu_count() or 1, 2)
    on_cpu = name == "cpu" or (name == "auto" and not (cuda or mps))
    if on_cpu and isinstance(devices, int) and devices > cores:  # each is a process
        raise UserError(f"trainer.devices={devices}: this machine has {cores} cores")
