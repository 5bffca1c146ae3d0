"""The student of a run: its net, first weights, adapters and the mode's LightningModule."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import seed_everything
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from torch import nn

from kd.build.parts import build_distiller, build_net, build_peers, distiller_class
from kd.data.base import DataModule
from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.errors import UserError
from kd.tasks import task_named
from kd.training.acquired import AcquiredTeacher
from kd.training.start_weights import load_start
from kd.training.summary import print_taps
from kd.validation.check import CheckedConfig


def check_start(cfg: DictConfig) -> None:
    """Refuse a missing `student.checkpoint`, before a teacher is trained.

    Raises:
        UserError: there is no such file or folder.
    """
    path = cfg.student.get("checkpoint")  # absent from the config of a teacher's own training
    if path is not None and not Path(path).exists():
        raise UserError(f"student.checkpoint={path}: there is no such file or folder")


def build_student(
    checked: CheckedConfig,
    data: DataModule,
    acquired: AcquiredTeacher | None,
    given: nn.Module | None = None,
) -> Distiller:
    """Assemble the student's LightningModule, print the matched taps, and compile its nets.

    The global generators are seeded once more after the adapters', so that the random numbers of
    training do not depend on how many an adapter has drawn. Arguments and errors are those of
    `assemble`.
    """
    cfg = checked.cfg
    distiller, pairings = assemble(checked, data, acquired, given)
    rank_zero_only(print_taps)(cfg.student.name, cfg.teacher.name, distiller, pairings)
    if cfg.compile is not None:
        distiller.compile_nets(cfg.compile)
    seed_everything(cfg.seed, verbose=False)
    return distiller


def assemble(
    checked: CheckedConfig,
    data: DataModule,
    acquired: AcquiredTeacher | None,
    given: nn.Module | None = None,
) -> tuple[Distiller, Mapping[str, Pairing]]:
    """Build the mode's LightningModule with the student, its teachers, and the adapters.

    The global generators are seeded before the student's weights are drawn: so the student starts
    from the same weights with every method.

    Args:
        checked: the run's config and method.
        data: the run's data, in memory.
        acquired: the teacher of an offline run; None: no objective needs one.
        given: the student net; None: built from the config.

    Returns:
        The module, and the outputs for an example batch by the pairing's name.

    Raises:
        UserError: a net refuses its arguments, or `student.checkpoint` does not fit the student.
    """
    cfg = checked.cfg
    seed_everything(cfg.seed, verbose=False)
    distiller = build_distiller(
        cfg,
        checked.method,
        checked.scheduler,
        student=_net(cfg, data) if given is None else given,
        num_classes=data.num_classes,
        task=task_named(data.task),
        **_teachers(cfg, data, acquired),
    )
    distiller.pad_index, distiller.normalisation = data.pad_index, data.normalisation
    return distiller, distiller.build_adapters(data.random_input(2), _labels(checked, data))


def _net(cfg: DictConfig, data: DataModule) -> nn.Module:
    net, path = build_net(cfg, "student", data), cfg.student.get("checkpoint")
    if path is not None:
        try:
            load_start(net, Path(path), cfg.student.get("checkpoint_key"), "student")
        except UserError as error:
            raise UserError(f"student.checkpoint={path}: {error}") from error
    return net


def _labels(checked: CheckedConfig, data: DataModule) -> torch.Tensor:
    """Labels of the training pool [N]; empty if unread and not at hand without a pass."""
    needed = distiller_class(checked.cfg).needs_index
    needed = needed or any(term.needs_index for term in checked.method.objectives.values())
    if data.limits.images and not needed:
        return torch.empty(0, dtype=torch.int64)
    assert data.train_targets is not None  # see `refuse_unsupported`
    return data.train_targets


def _teachers(
    cfg: DictConfig, data: DataModule, acquired: AcquiredTeacher | None
) -> dict[str, Any]:
    """Teacher arguments of the mode's class; none for self-distillation."""
    kind = distiller_class(cfg).teacher_kind
    if kind == "peers":
        return {"peers": build_peers(cfg, data)}
    if kind == "pretrained" and acquired is not None:
        return {"teacher": acquired.teacher, "test_logits": acquired.test_logits}
    return {}
