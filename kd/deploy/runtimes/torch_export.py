"""Files of torch.export (.pt2) in torch."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kd.deploy.exporting.description import decode
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.runtimes.pt2_archive import read_archive
from kd.errors import UserError


class TorchExportFile(ModelFile):
    """A classifier of torch.export: uint8 images [B, C, H, W] -> logits [B, K].

    The file may come from a stranger: see `kd.deploy.runtimes.program_check`. It runs on the CPU
    with the threads of `torch.set_num_threads`.

    Args:
        path: the file.

    Raises:
        UserError: the file is no such classifier, or of a version of torch that this one does not
            read.
    """

    def __init__(self, path: Path) -> None:
        archive = read_archive(path)
        self.description = (
            None if archive.description is None else decode(archive.description, path)
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch's loader, about its own functions
                program = torch.export.load(io.BytesIO(archive.content))
            _check_classifier(program)
            self._module = program.module()
        except MemoryError:
            raise
        except Exception as error:  # what numbers of a stranger lead to in torch
            raise UserError(
                f"{path} cannot be loaded by torch {torch.__version__}: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error)}"
            ) from None

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self._module(torch.tensor(images)).numpy(), dtype=np.float32)


def _check_classifier(program: torch.export.ExportedProgram) -> None:
    signature = program.graph_signature
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = (*signature.user_inputs, *signature.user_outputs)
    found = [values.get(str(name)) for name in names]
    shapes = [(value.dtype, value.dim()) for value in found if isinstance(value, torch.Tensor)]
    if shapes != [(torch.uint8, 4), (torch.float32, 2)]:
        said = ", ".join(f"{dtype} of {count} dimensions" for dtype, count in shapes)
        raise ValueError(
            "it is no classifier of images as kd.export writes it, uint8 [B, C, H, W] -> logits "
            f"[B, K]; it has {said or 'no tensors'}"
        )
