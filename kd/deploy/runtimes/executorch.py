"""ExecuTorch programs (.pte) in ExecuTorch's own runtime."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kd.deploy.exporting.description import KEY, decode
from kd.deploy.exporting.executorch_file import MAX_BATCH
from kd.deploy.runtimes.base import ModelFile
from kd.io.regular_files import read_bytes

_MAX_BYTES = 2**31 - 1


class ExecutorchFile(ModelFile):
    """A classifier in ExecuTorch on the CPU; larger batches go through it in parts.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        from executorch.runtime import Runtime

        self._program = Runtime.get().load_program(read_bytes(path, _MAX_BYTES))
        self._method = self._program.load_method("forward")
        self.description = None
        if KEY in self._program.method_names:
            (text,) = self._program.load_method(KEY).execute([])
            self.description = decode(bytes(text.tolist()).decode(), path)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [images[i : i + MAX_BATCH] for i in range(0, len(images), MAX_BATCH)]
        # The runtime uses its output's memory again in the next call.
        found = [self._method.execute([torch.tensor(part)])[0].numpy().copy() for part in parts]
        return np.concatenate(found).astype(np.float32)
