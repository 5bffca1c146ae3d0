"""Settings and validation accuracy for TensorBoard's HPARAMS tab."""

from typing import Any, cast

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from kd.distillers.evaluation import EvaluatedModule


class LogHyperparameters(Callback):
    """Logs the run's settings, with the selecting validation figure as their metric in TensorBoard.

    Args:
        hparams: flat settings of plain types.
    """

    def __init__(self, hparams: dict[str, Any]) -> None:
        self.hparams = hparams

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # The metric has to be declared together with the settings, or the tab stays empty.
                metric = cast(EvaluatedModule, pl_module).hparams_metric
                logger.log_hyperparams(self.hparams, {metric: float("nan")})
            else:
                logger.log_hyperparams(self.hparams)
