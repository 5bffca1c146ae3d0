"""Quantised models in their runtime, before they are written."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.deploy.runtimes.base import ModelFile
from kd.deploy.runtimes.onnx import OnnxFile

_BATCH = 64


@contextmanager
def opened(model: bytes) -> Iterator[OnnxFile]:
    """Provide an ONNX model in onnxruntime.

    Raises:
        UserError: the runtime lacks an operator of it, which the message names.
    """
    with tempfile.TemporaryDirectory(prefix="kd.int8.") as folder:
        file = Path(folder) / "int8.onnx"
        file.write_bytes(model)
        yield OnnxFile(file)


def batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield images [N, C, H, W] in batches of at most 64."""
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]


def all_logits(file: ModelFile, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits [N, K] of images [N, C, H, W]."""
    return np.concatenate([file.logits(batch) for batch in batches(images)])
