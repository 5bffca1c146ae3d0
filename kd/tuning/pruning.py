"""Reports of a running trial to Optuna, and its pruning."""

import optuna
from lightning import Callback, LightningModule, Trainer


class ReportToTrial(Callback):
    """Report validation accuracy after every epoch; end the trial if the pruner decides so.

    Args:
        trial: an Optuna trial.
        prune: False only reports.

    Raises:
        optuna.TrialPruned: ends the fit.
    """

    def __init__(self, trial: optuna.Trial, prune: bool = True) -> None:
        self.trial, self.prune = trial, prune

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1  # Lightning counts from 0
        accuracy = trainer.callback_metrics["val/acc"].item()
        self.trial.report(accuracy, epoch)
        if self.prune and self.trial.should_prune():
            raise optuna.TrialPruned(f"validation accuracy {accuracy:.4f} in epoch {epoch}")
