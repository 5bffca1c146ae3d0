"""Quantised models in their runtime, before they are written."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.deploy.runtimes.base import ModelFile
from kd.deploy.runtimes.onnx import OnnxFile

_BATCH = 64


def in_runtime(model: bytes) -> OnnxFile:
    """Return an ONNX model in onnxruntime.

    Raises:
        UserError: the runtime lacks an operator of it, which the message names.
    """
    return OnnxFile(Path("the int8 model"), content=model)


def batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield images [N, C, H, W] in batches of at most 64."""
    for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]


def all_logits(file: ModelFile, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits [N, K] of images [N, C, H, W]."""
    return np.concatenate([file.logits(batch) for batch in batches(images)])
