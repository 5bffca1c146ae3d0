"""The interface of a model file that runs in its own runtime."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.deploy.exporting.description import Description
from kd.errors import UserError


class ModelFile(ABC):
    """An exported model, loaded for inference on the CPU.

    Attributes:
        description: what the file says about itself; None: it was not made by `kd.export`.
        max_batch: samples that the runtime takes in a call; None: any number. `logits` takes any.
    """

    description: Description | None
    max_batch: int | None = None

    @abstractmethod
    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Return logits [B, K] of uint8 images [B, C, H, W], or of int64 token ids [B, L]."""

    def boxes(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return all boxes [B, N, 4] and scores [B, N, K] that a detector gives images.

        Raises:
            UserError: files of this format hold none.
        """
        raise UserError(f"{type(self).__name__} gives logits, and no boxes")

    def outputs(self, inputs: NDArray[Any]) -> object:
        """Run the model, whatever it returns."""
        about = self.description
        detects = about is not None and about["task"] == "detection"
        return self.boxes(inputs) if detects else self.logits(inputs)
