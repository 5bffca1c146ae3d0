"""The step that every mode shares: traces in, weighted sum of objectives out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kd.errors import UserError
from kd.metrics import Evaluation
from kd.objectives.base import Objective, Setting
from kd.schedules import Schedule
from kd.taps import Taps
from kd.trace import Batch, Trace

# TensorBoard's HPARAMS tab ranks by it; callbacks.LogHyperparameters announces it.
HPARAMS_METRIC = "hp/val_acc"
NO_TRACE = Trace(torch.empty(0), {})


class Distiller(LightningModule, ABC):
    """Trains a student on Σ weight · objective; a mode says where the teacher's trace comes from.

    Args:
        student: the net to train; its weights are `student.*` in checkpoints.
        places: the student's taps, canonical name -> module path.
        objectives: the terms by name; their adapters are `objectives.*` in checkpoints.
        weights: a number or a schedule of progress for every objective.
        optimizer: makes the optimizer from parameters.
        scheduler: factor of the learning rate as a function of progress, applied every step.
        num_classes: K.
    """

    def __init__(
        self,
        student: nn.Module,
        places: Mapping[str, str],
        objectives: Mapping[str, Objective],
        weights: Mapping[str, float | Schedule],
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Schedule,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # a checkpoint has no teacher; see on_load_checkpoint
        self.student = student
        wanted = [tap for objective in objectives.values() for tap in objective.student_taps]
        self.student_taps = Taps(student, places, wanted)
        self.objectives = nn.ModuleDict(objectives)
        self.weights = dict(weights)
        self.optimizer_factory = optimizer
        self.scheduler = scheduler
        self.num_classes = num_classes
        self.total_steps = 1
        self.val_figures = Evaluation(num_classes)
        self.test_figures = Evaluation(num_classes, calibration=True)

    @abstractmethod
    def traces(self, batch: Batch) -> tuple[Trace, Trace]:
        """Return the student's trace, with gradients, and that of who teaches it, without."""

    @abstractmethod
    def probe(self, images: Tensor) -> tuple[Trace, Trace]:
        """Return both traces of a small batch in eval mode, leaving no mark on the nets."""

    def build_adapters(self, images: Tensor, targets: Tensor) -> tuple[Trace, Trace]:
        """Let every objective make its adapters from real shapes; before the optimizer exists.

        Args:
            images: a small normalised batch [b, C, H, W].
            targets: labels [N] of the training pool.
        """
        student, teacher = self.probe(images)
        heads = {"student_head": self.student_taps.head, "teacher_head": self.teacher_head}
        setting = Setting(self.num_classes, targets, **heads)
        for objective in self.objectives.values():
            cast(Objective, objective).build(student, teacher, setting)
        return student, teacher

    @property
    def progress(self) -> float:
        """The share of all steps that is done, in [0, 1]."""
        return min(self.global_step / self.total_steps, 1.0)

    @property
    def teacher_head(self) -> nn.Module | None:
        """The module that turns the teacher's embedding into logits, where there is one."""
        return None

    def training_step(self, batch: Batch, batch_index: int) -> dict[str, Any]:
        for objective in self.objectives.values():
            cast(Objective, objective).progress = self.progress
        student, teacher = self.traces(batch)
        terms: dict[str, Tensor] = {
            name: objective(student, teacher, batch) for name, objective in self.objectives.items()
        }
        loss = torch.stack([self.weight(k) * term for k, term in terms.items()]).sum()
        detached = {k: term.detach() for k, term in terms.items()}
        self.log("train/loss", loss.detach(), prog_bar=True, on_step=False, on_epoch=True)
        self.log_dict({f"train/{k}": v for k, v in detached.items()}, on_step=False, on_epoch=True)
        return {"loss": loss, "terms": detached}

    def weight(self, name: str) -> float:
        """The weight of objective `name` now."""
        weight = self.weights[name]
        return weight(self.progress) if isinstance(weight, Schedule) else weight

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self.val_figures.update(self.student(batch.input), batch.target)

    def on_validation_epoch_end(self) -> None:
        figures = {f"val/{k}": v for k, v in self.val_figures.compute().items()}
        self.log_dict(figures, prog_bar=True)
        self.log(HPARAMS_METRIC, figures["val/acc"])

    def test_step(self, batch: Batch, batch_index: int) -> None:
        teacher = self.teacher_test_logits(batch)
        self.test_figures.update(self.student(batch.input), batch.target, teacher)

    def on_test_epoch_end(self) -> None:
        self.log_dict({f"test/{k}": v for k, v in self.test_figures.compute().items()})

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        """The teacher's logits [B, K] on a test batch, if there is a teacher to agree with."""
        return None

    def on_train_start(self) -> None:
        # Not in configure_optimizers: asked for there, Lightning makes the loaders before it
        # restores a checkpoint, and a resumed epoch starts over.
        self.total_steps = max(int(self.trainer.estimated_stepping_batches), 1)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer_factory([p for p in self.parameters() if p.requires_grad])
        schedule = LambdaLR(
            optimizer, lambda step: self.scheduler(min(step / self.total_steps, 1.0))
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is not of these nets; Lightning's strictness is off."""
        ours, theirs = self.state_dict().keys(), checkpoint["state_dict"].keys()
        if ours != theirs:
            missing, unknown = sorted(ours - theirs)[:5], sorted(theirs - ours)[:5]
            raise UserError(
                f"the checkpoint is of another run: missing {missing}, unknown {unknown}; "
                "resume with the method, student and data it was made with"
            )
