"""The teacher of an offline run, as a step of the run."""

import torch
from torch import nn

from kd.build.parts import distiller_class
from kd.config.members import is_ensemble
from kd.data.base import DataModule
from kd.training.acquired import AcquiredTeacher
from kd.training.controls import control_of
from kd.training.ensemble import acquire_ensemble
from kd.training.single_teacher import acquire_teacher
from kd.training.teacher_checks import check_teacher_files
from kd.training.teacher_net import Train
from kd.validation.check import CheckedConfig


def acquire(
    checked: CheckedConfig,
    data: DataModule,
    device: torch.device,
    train: Train,
    given: nn.Module | None = None,
) -> AcquiredTeacher | None:
    """Return the trained teacher; None if no objective reads one, or the mode trains its own.

    Args:
        checked: the run's config and method.
        data: the run's data, in memory.
        device: the device on which the teacher is tested.
        train: runs a config in a folder; called if the teacher has to be trained first.
        given: the teacher net with its weights; None: built from the config.

    Raises:
        UserError: as `acquire_teacher`.
    """
    cfg, method = checked.cfg, checked.method
    if not needs_teacher(checked):
        return None
    if is_ensemble(cfg):
        return acquire_ensemble(cfg, data, method, device, train)
    return acquire_teacher(cfg, data, method, device, train, given)


def check_teacher(checked: CheckedConfig, given: nn.Module | None = None) -> None:
    """Check the files of the teacher before any data are loaded.

    Args:
        checked: the run's config and method.
        given: the teacher net; None: built from the config.

    Raises:
        UserError: a checkpoint is missing, unreadable, or of another net.
    """
    if given is None and needs_teacher(checked):
        check_teacher_files(checked.cfg)


def needs_teacher(checked: CheckedConfig) -> bool:
    """Return whether a trained teacher has a part in the run."""
    pretrained = distiller_class(checked.cfg).teacher_kind == "pretrained"
    asked = control_of(checked.cfg) == "smoothing"  # for its confidence
    return pretrained and (checked.method.needs_teacher or asked)
