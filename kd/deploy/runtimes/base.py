"""The interface of a model file that runs in its own runtime."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd.deploy.exporting.description import Description


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
