"""Callback that saves the student's weights after every epoch."""

from pathlib import Path
from typing import cast

from lightning import Callback, LightningModule, Trainer

from kd.distillers.base import Distiller
from kd.io.atomic import write_atomic
from kd.io.run_folder import RunFolder
from kd.io.tensors import safetensors_bytes


class SaveEpochWeights(Callback):
    """Saves the deployed net's weights as `epochs/epoch_0001.safetensors` and so on.

    A later run can take them as an early-stopped teacher (`teacher.epoch`; Cho & Hariharan 2019,
    https://arxiv.org/abs/1910.01348).

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        file = RunFolder(self.folder).epoch(trainer.current_epoch + 1)
        net = cast(Distiller, pl_module).deployed()
        write_atomic(file, safetensors_bytes(net.state_dict()))
