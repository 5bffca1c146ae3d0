"""Weights files in `kd.load`."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import nn

from kd.deploy.box_student import BoxStudent
from kd.deploy.exporting.description import KEY, decode
from kd.deploy.load import load
from kd.deploy.runtimes.base import ModelFile


class SafetensorsFile(ModelFile):
    """A student that `kd.load` rebuilds from its weights.

    Args:
        path: the file.
        net: where no constructor builds it (SimKD), the net, which is copied.
    """

    def __init__(self, path: Path, net: nn.Module | None = None) -> None:
        self._student = load(path, copy.deepcopy(net))
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(f"{KEY}.export")
        self.description = None if text is None else decode(text, path)

    def boxes(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        assert isinstance(self._student, BoxStudent)
        boxes, scores = self._student.decoded(torch.tensor(images))
        return boxes.numpy(), scores.numpy()

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self._student(torch.tensor(images)).numpy(), dtype=np.float32)
