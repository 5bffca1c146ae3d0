"""An ensemble as the teacher: every member is acquired by itself, then they are combined."""

import logging
from collections.abc import Mapping

import torch
from omegaconf import DictConfig

from kd.build.method import Method
from kd.config.compose import plain
from kd.config.members import member_configs
from kd.data.base import DataModule
from kd.teachers.base import Teacher
from kd.teachers.ensemble import EnsembleTeacher
from kd.training.acquired import AcquiredTeacher
from kd.training.single_teacher import acquire_teacher
from kd.training.teacher_net import Train

log = logging.getLogger(__name__)

_SETTINGS = ("combine", "weighting", "weights", "temperature", "features")


def combined(cfg: DictConfig, members: Mapping[str, Teacher]) -> EnsembleTeacher:
    """Combine the members as the config says."""
    return EnsembleTeacher(members, **{key: plain(cfg.teacher[key]) for key in _SETTINGS})


def acquire_ensemble(
    cfg: DictConfig,
    data: DataModule,
    method: Method,
    device: torch.device,
    train: Train,
) -> AcquiredTeacher:
    """Acquire every member as a teacher of its own, and test their combination.

    Only the member `teacher.features` records taps. Arguments and errors are those of
    `acquire_teacher`.
    """
    features = cfg.teacher.features
    members = {
        name: acquire_teacher(alone, data, method if name == features else None, device, train)
        for name, alone in member_configs(cfg).items()
    }
    teacher = combined(cfg, {name: m.teacher for name, m in members.items()})
    theirs = [m.test_logits for m in members.values() if m.test_logits is not None]
    logits = teacher.combined(torch.stack(theirs))
    accuracy = (logits.argmax(1) == data.test_targets).float().mean().item()
    log.info("ensemble of %s: test accuracy %.4f", " + ".join(members), accuracy)
    return AcquiredTeacher(
        teacher,
        logits,
        {"acc": accuracy},
        source=", ".join(m.source for m in members.values()),
        weights_hash=[str(m.weights_hash) for m in members.values()],
        recipe_hash=[
            None if m.recipe_hash is None else str(m.recipe_hash) for m in members.values()
        ],
        seconds=sum(m.seconds for m in members.values()),
        members={name: m.test_figures["acc"] for name, m in members.items()},
    )
