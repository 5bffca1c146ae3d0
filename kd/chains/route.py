"""Chains along a teacher's own training: one student learns from the teacher of several epochs.

Route-constrained optimisation: Jin et al. 2019, https://arxiv.org/abs/1904.09149.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from kd.chains.stage import ChainStage, compose_stage, list_setting
from kd.errors import UserError


def route_stages(cfg: DictConfig, overrides: Sequence[str], folder: Path) -> Iterator[ChainStage]:
    """Yield a stage for every epoch of the route; each continues the student of the one before."""
    before: ChainStage | None = None
    for number, epoch in enumerate(_epochs(cfg), start=1):
        stage = compose_stage(overrides, number, folder / f"{number}_epoch{epoch}")
        # Every stage has another order of images; the first starts like a single run.
        stage.cfg.seed = cfg.seed + number - 1
        stage.cfg.teacher.epoch = epoch
        if before is not None:
            stage.cfg.student.update(checkpoint=before.reference, checkpoint_key=None)
        before = stage
        yield stage


def _epochs(cfg: DictConfig) -> list[int]:
    """The epochs in `route`, which ascend and end within the teacher's training."""
    epochs = list_setting(cfg, "route", "epochs of the teacher's training", "[5,10,20]")
    route = f"route=[{','.join(map(str, epochs))}]"
    if cfg.teacher.epoch is not None:
        raise UserError(
            f"teacher.epoch={cfg.teacher.epoch}: {route} defines the epochs; remove teacher.epoch"
        )
    if not all(type(epoch) is int and epoch >= 1 for epoch in epochs):
        raise UserError(f"{route}: epochs are whole numbers ≥ 1")
    if epochs != sorted(set(epochs)):
        raise UserError(f"{route}: the epochs must ascend")
    trained = cfg.teacher.training.trainer.max_epochs
    if cfg.teacher.checkpoint is None and epochs[-1] > trained:
        raise UserError(
            f"{route}: the teacher trains for teacher.training.trainer.max_epochs={trained}"
        )
    return epochs
