"""OpenVINO models (.xml with .bin) in OpenVINO."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd.deploy.exporting.description import KEY, decode
from kd.deploy.runtimes.base import ModelFile


class OpenvinoFile(ModelFile):
    """A classifier in OpenVINO on the CPU, with float32 arithmetic.

    Args:
        path: the .xml file; the .bin file lies beside it.
    """

    def __init__(self, path: Path) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        self.description = None
        if model.has_rt_info([KEY]):
            self.description = decode(model.get_rt_info([KEY]).astype(str), path)
        # Its default on recent processors is bfloat16, which is not what the file holds.
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        self._model = core.compile_model(model, "CPU", hint)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self._model(images)[0], dtype=np.float32)
