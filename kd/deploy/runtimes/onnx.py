"""ONNX files in onnxruntime."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd.deploy.exporting.description import KEY, decode
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.runtimes.signature import signature
from kd.errors import UserError
from kd.io.regular_files import read_bytes

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MAX_BYTES = 2**31 - 1  # of a file; protobuf reads no larger ones


class OnnxFile(ModelFile):
    """An ONNX model that kd.export wrote; of files that say nothing, a classifier of images.

    See `kd.deploy.runtimes.signature` for its input and outputs.

    The file may come from a stranger: it is read as bytes, so that it cannot refer to other files,
    and no library of custom operators is loaded.

    Args:
        path: the file.
        threads: of the runtime; None: its default, all cores.
        content: of a model that lies in memory; None: it is read from the file.

    Raises:
        UserError: onnxruntime is not installed, or the file is no such classifier.
    """

    def __init__(
        self, path: Path, threads: int | None = None, content: bytes | None = None
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{path} needs onnxruntime: pip install -e '.[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; what it warns of concerns the optimiser
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session: InferenceSession = onnxruntime.InferenceSession(
                read_bytes(path, MAX_BYTES) if content is None else content,
                options,
                providers=["CPUExecutionProvider"],
            )
        except (OSError, UserError):
            raise
        except Exception as error:  # onnxruntime's own kinds, one for each state
            raise UserError(f"{path} is damaged or no ONNX model: {error}") from None
        self.description = None
        text = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is not None:
            self.description = decode(text, path)
        self._input = self._only_input(path)

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        result: Any = self.session.run(None, {self._input: images})[0]
        return np.asarray(result, dtype=np.float32)

    def boxes(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        found: Any = self.session.run(None, {self._input: images})
        boxes, scores = found
        return np.asarray(boxes, np.float32), np.asarray(scores, np.float32)

    def _only_input(self, path: Path) -> str:
        """Return the input's name, if inputs and outputs are as the description says."""
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        types = [value.type.removeprefix("tensor(").removesuffix(")") for value in inputs]
        wanted = signature(self.description)
        taken = [(each, len(v.shape)) for each, v in zip(types, inputs, strict=True)]
        if not wanted.fits(taken, [len(value.shape) for value in outputs]):
            found = ", ".join(f"{v.name}: {v.type} {v.shape}" for v in (*inputs, *outputs))
            raise UserError(
                f"{path} is no {wanted.kind} as kd.export writes it, {wanted.words}; it has {found}"
            )
        return str(inputs[0].name)
