"""Files of torch.export (.pt2) in torch."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.deploy.exporting.description import decode
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.runtimes.pt2_archive import read_archive
from kd.deploy.runtimes.signature import Signature, signature
from kd.errors import UserError


class TorchExportFile(ModelFile):
    """A classifier of torch.export; see `kd.deploy.runtimes.signature` for its input and output.

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
            _check_classifier(program, signature(self.description))
            self._module = program.module()
        except MemoryError:
            raise
        except Exception as error:  # what numbers of a stranger lead to in torch
            raise UserError(
                f"{path} cannot be loaded by torch {torch.__version__}: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error)}"
            ) from None

    def logits(self, images: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self._module(torch.tensor(images)).numpy(), dtype=np.float32)


def _check_classifier(program: torch.export.ExportedProgram, wanted: Signature) -> None:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    own = program.graph_signature
    inputs, outputs = (
        [value for name in names if isinstance(value := values.get(str(name)), torch.Tensor)]
        for names in (own.user_inputs, own.user_outputs)
    )
    taken = [(str(value.dtype).removeprefix("torch."), value.dim()) for value in inputs]
    floats = all(value.dtype == torch.float32 for value in outputs)
    if not floats or not wanted.fits(taken, [value.dim() for value in outputs]):
        said = ", ".join(f"{v.dtype} of {v.dim()} dimensions" for v in (*inputs, *outputs))
        raise ValueError(
            f"it is no {wanted.kind} as kd.export writes it, {wanted.words}; it has "
            f"{said or 'no tensors'}"
        )
