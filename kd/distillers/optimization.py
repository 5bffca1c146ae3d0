"""Optimizer and learning rate of a run, and new settings of both when it resumes."""

from abc import ABC
from collections.abc import Callable
from typing import Any, cast

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import ParamsT

from kd.distillers.loss_parts import LossParts
from kd.distillers.paired import PairedModule
from kd.distillers.stages import Plan
from kd.optimizers.base import PartsOptimizer
from kd.schedules import Schedule


class OptimizedModule(PairedModule, ABC):
    """A student with the optimizer of its run; every stage has the whole learning rate schedule.

    Args:
        plan, optimizer, scheduler: as `Distiller`.
        **student: as `PairedModule`.

    Attributes:
        total_steps: steps of the whole run, known when the training starts.
        loss_parts: what an optimizer needs that gets a gradient of each part of the loss; None:
            the optimizer gets one gradient, as most do.
        settings_changed: the run resumes with other settings than it had: those of the optimizer
            and of the scheduler replace the restored ones.
    """

    def __init__(
        self,
        plan: Plan,
        optimizer: Callable[[ParamsT], Optimizer],
        scheduler: Schedule,
        **student: Any,
    ) -> None:
        super().__init__(**student)
        self.plan = plan
        self.optimizer_factory = optimizer
        self.scheduler = scheduler
        self.total_steps = 1
        self.loss_parts: LossParts | None = None
        self.settings_changed = False
        self._fresh: list[dict[str, Any]] = []  # settings of the optimizer's groups, as configured

    @property
    def progress(self) -> float:
        """Fraction of all training steps that are done, in [0, 1]."""
        return min(self.global_step / self.total_steps, 1.0)

    def parameter_groups(self) -> ParamsT:
        """Return what the optimizer trains: parameters, or groups of them."""
        return [p for p in self.parameters() if p.requires_grad]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self.optimizer_factory(self.parameter_groups())
        self.loss_parts = LossParts(optimizer) if isinstance(optimizer, PartsOptimizer) else None
        groups = optimizer.param_groups
        self._fresh = [{k: v for k, v in each.items() if k != "params"} for each in groups]
        schedule = LambdaLR(optimizer, self._lr_factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "train/lr"},
        }

    def _lr_factor(self, step: int) -> float:
        """Return the factor of the learning rate; every stage has the whole schedule."""
        _, done = self.plan.at(min(step / self.total_steps, 1.0))
        return self.scheduler(done)

    def on_train_start(self) -> None:
        # Not in configure_optimizers: reading `estimated_stepping_batches` there makes Lightning
        # set up the loaders before it restores a checkpoint, and a resumed epoch would restart.
        self.total_steps = max(int(self.trainer.estimated_stepping_batches), 1)

    def apply_settings(self) -> None:
        """Give the restored optimizer and learning rate their values by the present settings."""
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        schedule = cast(LambdaLR, self.lr_schedulers())
        schedule.base_lrs = [settings["lr"] for settings in self._fresh]
        factor = self._lr_factor(schedule.last_epoch)
        for group, settings in zip(optimizer.param_groups, self._fresh, strict=True):
            group.update(settings, initial_lr=settings["lr"], lr=settings["lr"] * factor)
