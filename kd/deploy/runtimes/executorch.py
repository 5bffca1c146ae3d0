"""ExecuTorch programs (.pte) in ExecuTorch's own runtime."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kd.deploy.exporting.description import KEY, decode
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
        # ExecuTorch plans memory for fewer images than the range of batch sizes allows.
        self.max_batch = int(self._method.metadata.input_tensor_meta(0).sizes()[0])
        self.description = None
        if KEY in self._program.method_names:
            (text,) = self._program.load_method(KEY).execute([])
            self.description = decode(bytes(text.tolist()).decode(), path)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = self.max_batch or len(images)
        parts = [images[i : i + size] for i in range(0, len(images), size)]
        # The runtime uses its output's memory again in the next call.
        found = [self._method.execute([torch.tensor(part)])[0].numpy().copy() for part in parts]
        return np.concatenate(found).astype(np.float32)
