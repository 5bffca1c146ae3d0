"""The Trainer, its callbacks and loggers, and the optimizer."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from omegaconf import DictConfig
from torch.optim.optimizer import ParamsT

from kd.build.instantiate import make
from kd.build.precision import warn_of_slow_precision
from kd.callbacks.checkpoint import AtomicCheckpointIO, Checkpoints
from kd.callbacks.epoch_weights import SaveEpochWeights
from kd.callbacks.fit_timer import FitTimer
from kd.callbacks.gradient_norms import GradientNorms
from kd.callbacks.hparams import LogHyperparameters
from kd.compat import count_epochs_from_one
from kd.errors import UserError


def build_optimizer(cfg: DictConfig, parameters: ParamsT) -> torch.optim.Optimizer:
    """Build the optimizer.

    Args:
        cfg: `optimizer` of the run's config.
        parameters: what it updates, or groups of them.

    Raises:
        UserError: the optimizer refuses a value.
    """
    optimizer: torch.optim.Optimizer = make(cfg, "optimizer", params=parameters)
    return optimizer


def build_trainer(
    cfg: DictConfig, folder: Path, hparams: dict[str, Any], more: Sequence[Callback] = ()
) -> Trainer:
    """Build the Trainer with its loggers and callbacks.

    Args:
        cfg: the run's config.
        folder: the run's folder, to which all of them write.
        hparams: flat plain settings for TensorBoard's HPARAMS tab.
        more: callbacks in addition to the configured ones.

    Raises:
        UserError: this machine does not have the devices, or a part refuses its arguments.
    """
    _check_accelerator(str(cfg.trainer.accelerator), cfg.trainer.devices)
    loggers = [make(leaf, "logger.*", f"logger.{k}") for k, leaf in cfg.logger.items() if leaf]
    # Lightning raises for a progress bar that is disabled, and for a LearningRateMonitor without a
    # logger.
    idle = {"progress": not cfg.trainer.enable_progress_bar, "learning_rate": not loggers}
    wanted = {k: leaf for k, leaf in cfg.callbacks.items() if leaf and not idle.get(k)}
    callbacks = [make(leaf, "callbacks.*", f"callbacks.{k}") for k, leaf in wanted.items()]
    if cfg.doctor:
        callbacks.append(GradientNorms())
    if cfg.keep_epochs:
        callbacks.append(SaveEpochWeights(folder))
    checkpoints = Checkpoints(folder, cfg.checkpoint.every_minutes)
    warn_of_slow_precision(cfg.trainer)
    strict = {"deterministic": True} if cfg.deterministic == "strict" else {}
    if strict:
        # cuBLAS reads it once, when it starts, and is not deterministic without it:
        # https://docs.nvidia.com/cuda/cublas/#results-reproducibility
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    trainer: Trainer = make(
        cfg.trainer,
        "trainer",
        callbacks=[LogHyperparameters(hparams), FitTimer(), *callbacks, *more, checkpoints],
        plugins=[AtomicCheckpointIO()],
        logger=loggers,
        default_root_dir=folder,
        **strict,
    )
    count_epochs_from_one(trainer)
    return trainer


def _check_accelerator(name: str, devices: Any) -> None:
    """Refuse devices that this machine does not have, and name those that it has."""
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
    # On a CPU a device is a process. Two are allowed on one core: tests of them need no more.
    if on_cpu and isinstance(devices, int) and devices > cores:
        raise UserError(f"trainer.devices={devices}: this machine has {cores} cores")
