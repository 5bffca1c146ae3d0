"""The net of a single teacher with its weights: loaded, found in the registry, or trained now."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import seed_everything
from omegaconf import DictConfig
from torch import nn

from kd.build.given import GivenParts
from kd.build.parts import build_net, distiller_class
from kd.data.base import DataModule
from kd.errors import UserError
from kd.io.checkpoint.finite import refuse_not_finite
from kd.io.own_files import delete_run
from kd.io.run_folder import RunFolder
from kd.io.weights import kept_epoch, read_file
from kd.tasks import task_named
from kd.teachers.registry import Registry
from kd.training.controls import control_of
from kd.training.start_weights import load_start
from kd.training.teacher_classes import teacher_classes
from kd.training.teacher_run import teacher_data, teacher_key, teacher_run
from kd.training.teacher_update import check_parts, own_net

log = logging.getLogger(__name__)

Train = Callable[[DictConfig, Path, GivenParts], Any]


class TeacherNet(NamedTuple):
    """A teacher net with its weights, their source, and their folder or file if they have one."""

    net: nn.Module
    source: str
    path: Path | None = None


def given_net(cfg: DictConfig, net: nn.Module) -> TeacherNet:
    """Return a net that was given, a copy if parts of it train.

    Raises:
        UserError: its weights are not finite, or it has no part that `teacher.update` names.
    """
    refuse_not_finite(net.state_dict(), "the teacher that was given")
    check_parts(cfg, net)
    return TeacherNet(own_net(cfg, net), "given")


def build_teacher_net(cfg: DictConfig, data: DataModule) -> nn.Module:
    """Build the net that the config describes, with random weights.

    Raises:
        UserError: it refuses its arguments, or the mode refuses it.
    """
    classifies = task_named(data.task).classifies
    # Building a net draws random weights, which the loaded ones replace.
    with torch.random.fork_rng(devices=[]):
        seed_everything(cfg.teacher.training.seed, verbose=False)
        count = teacher_classes(cfg, data).num_classes
        net = build_net(cfg, "teacher", data, num_classes=count if classifies else None)
    try:
        distiller_class(cfg).check_teacher(net)
    except ValueError as error:
        raise UserError(f"teacher={cfg.teacher.name}: {error}") from error
    return net


def needs_training(cfg: DictConfig, data: DataModule) -> bool:
    """Return whether the teacher has to be trained before it can teach."""
    if cfg.teacher.checkpoint is not None or data.limits.registry:
        return False
    untrained = control_of(cfg) == "untrained"
    return not untrained and _registry(cfg).find(teacher_key(cfg, data)) is None


def configured_teacher(cfg: DictConfig, data: DataModule, train: Train) -> TeacherNet:
    """Build the net that the config describes, with its trained weights."""
    net = build_teacher_net(cfg, data)
    if control_of(cfg) == "untrained":
        return TeacherNet(net, "untrained")
    check_parts(cfg, net)  # before it is trained
    path, source = _weights(cfg, data, train)
    epoch = cfg.teacher.epoch
    key = cfg.teacher.get("checkpoint_key") if source == "checkpoint" else None
    load_start(net, path if epoch is None else kept_epoch(path, epoch), key)
    return TeacherNet(net, source, path)


def _weights(cfg: DictConfig, data: DataModule, train: Train) -> tuple[Path, str]:
    """Return the folder or file of the teacher's weights, and their source."""
    if cfg.teacher.checkpoint is not None:
        return Path(cfg.teacher.checkpoint), "checkpoint"
    if data.limits.registry:
        raise UserError(
            f"teacher={cfg.teacher.name} has no checkpoint, and a teacher trained now could not be "
            f"found again: {data.limits.registry}. Train it with method=ce student="
            f"{cfg.teacher.name} and pass its folder as teacher.checkpoint"
        )
    registry = _registry(cfg)

    def train_in(folder: Path) -> None:
        log.info("teacher %s is not in %s yet: training it now", cfg.teacher.name, registry.root)
        run = teacher_run(cfg, folder)
        _resume(run, folder)
        train(run, folder, GivenParts(data=teacher_data(cfg, data)))

    path, trained = registry.get_or_train(teacher_key(cfg, data), train_in)
    return path, "trained now" if trained else "reused"


def _registry(cfg: DictConfig) -> Registry:
    return Registry(Path(cfg.paths.teachers))


def _resume(run: DictConfig, folder: Path) -> None:
    """Resume a teacher's training that an earlier process did not finish, if it left a checkpoint.

    A damaged checkpoint is deleted with all of the unfinished training.
    """
    state = RunFolder(folder).last
    try:
        if state.is_file():
            read_file(state)
            log.info("resuming the teacher's training from %s", state)
            run.resume = str(folder)
    except UserError as error:
        log.warning("%s; the teacher is trained from the beginning", error)
        delete_run(folder)
