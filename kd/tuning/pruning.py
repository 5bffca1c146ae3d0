"""What tells a search how a trial is doing, and ends the trial where it is hopeless."""

import optuna
from lightning import Callback, LightningModule, Trainer


class ReportToTrial(Callback):
    """Report the validation accuracy of every epoch to a trial; stop where the pruner says so.

    Args:
        trial: an Optuna trial.
        prune: False only reports.
    """

    def __init__(self, trial: optuna.Trial, prune: bool = True) -> None:
        self.trial, self.prune = trial, prune

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        accuracy = trainer.callback_metrics["val/acc"].item()
        self.trial.report(accuracy, epoch)
        if self.prune and self.trial.should_prune():
            raise optuna.TrialPruned(f"validation accuracy {accuracy:.4f} in epoch {epoch}")
