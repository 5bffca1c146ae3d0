"""Stages of a run while it trains: entered in turn, saved, and resumed."""

from abc import ABC
from typing import Any, cast

from torch.optim import Optimizer

from kd.distillers.optimization import OptimizedModule
from kd.distillers.stages import Stage
from kd.errors import UserError
from kd.types import Batch


class StagedModule(OptimizedModule, ABC):
    """A student whose objectives, their settings and the optimizer follow the plan's stages."""

    _stage: Stage | None = None
    _resumed_stage: int | None = None  # index of the stage in which a checkpoint was saved

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.settings_changed:
            self._refuse_earlier_stage()
            self.apply_settings()
        # A stage may freeze parameters that the restored optimizer still holds.
        if self._resumed_stage is not None:
            self._enter(self.plan.stages[self._resumed_stage])

    def _refuse_earlier_stage(self) -> None:
        now, _ = self.plan.at(self.progress)
        before = self.plan.stages[self._resumed_stage or 0]
        if self.plan.stages.index(now) < (self._resumed_stage or 0):
            raise UserError(
                f"the run has reached stage {before.name!r} of its method, and with "
                f"trainer.max_epochs={self.trainer.max_epochs} it would return to {now.name!r}; "
                "start a new run without resume"
            )

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        stage, _ = self.plan.at(self.progress)
        if stage is not self._stage:
            self._enter(stage)
        for objective in self.terms.values():
            objective.progress = self.progress
        self.plan.set_settings(self.terms, self.progress)

    def _enter(self, stage: Stage) -> None:
        """Start a stage. The optimizer state is reset between two stages of one process."""
        if self._stage is not None:
            cast(Optimizer, self.optimizers(use_pl_optimizer=False)).state.clear()
        if stage.name:
            for objective in self.terms.values():
                objective.enter(stage.name)
        self._stage = stage

    def on_validation_score(self, score: float) -> None:
        self.plan.observe(score)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["plan"] = self.plan.state_dict()
        checkpoint["stages"] = [stage.name for stage in self.plan.stages]
        checkpoint["stage"] = None if self._stage is None else self.plan.stages.index(self._stage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.plan.load_state_dict(checkpoint["plan"])
        self._resumed_stage = checkpoint["stage"]
