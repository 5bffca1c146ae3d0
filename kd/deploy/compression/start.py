"""The callback that starts what is trained beside the student's net from the finished run."""

from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn

from kd.distillers.deployed import ChangedStudent
from kd.io.run_folder import RunFolder
from kd.io.weights import read_file


class TrainedParts(Callback):
    """Gives the modules that a method puts behind the student (SimKD) their trained weights.

    A run is given the student's net alone, and builds the rest anew. Tensors whose shape has
    changed with the student's channels stay as they are initialised. A resumed run has the weights
    of its checkpoint, which is loaded later. The modules stay behind the student, also where a
    method would merge them into it.

    Args:
        folder: of the finished run.
    """

    def __init__(self, folder: Path) -> None:
        self.file = RunFolder(folder).weights

    @torch.no_grad()
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Merged weights are neither rounded nor masked.
        pl_module.merges = False  # type: ignore[assignment]
        deployed: nn.Module = pl_module.deployed()  # type: ignore[operator]
        if stage != "fit" or not isinstance(deployed, ChangedStudent):
            return
        trained = read_file(self.file)
        for name, tensor in deployed.objective.state_dict(prefix="objective.").items():
            if name in trained and trained[name].shape == tensor.shape:
                tensor.copy_(trained[name])
