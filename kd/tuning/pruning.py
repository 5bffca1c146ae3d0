"""Reports of a running trial to Optuna, and its pruning."""

from collections.abc import Callable, Mapping
from typing import cast

import optuna
from lightning import Callback, LightningModule, Trainer

from kd.distillers.evaluation import EvaluatedModule


class ReportToTrial(Callback):
    """Report validation accuracy after every epoch; end the trial if the pruner decides so.

    Args:
        trial: an Optuna trial.
        prune: False only reports.
        reported: accuracies by epoch of a trial that is resumed; the pruner has let it go on after
            all of them but the last.
        check: called before each report; raises if the trial has been lost.

    Raises:
        optuna.TrialPruned: ends the fit.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        prune: bool = True,
        reported: Mapping[int, float] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.trial, self.prune, self.reported, self.check = trial, prune, reported or {}, check

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.check()
        epoch = trainer.current_epoch + 1  # Lightning counts from 0
        task = cast(EvaluatedModule, pl_module).task
        score = trainer.callback_metrics[task.monitor].item()
        if epoch not in self.reported:
            self.trial.report(score, epoch)
        if epoch < max(self.reported, default=0):
            return
        if self.prune and self.trial.should_prune():
            raise optuna.TrialPruned(f"validation {task.figure} {score:.4f} in epoch {epoch}")
