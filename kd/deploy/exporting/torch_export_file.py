"""Export to a file of torch.export (.pt2)."""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor

from kd.deploy.exporting.description import KEY, Description, encode
from kd.deploy.exporting.exported_net import ExportedModule


def write_torch_export(
    net: ExportedModule, example: Tensor, description: Description, path: Path
) -> None:
    """Write a net as a file of torch.export that takes batches of any size.

    Args:
        net: in eval mode, on the CPU.
        example: two samples, such as uint8 images [2, C, H, W].
        description: for the metadata of the file.
        path: of the file, which is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own functions
        program = exported_program(net, example, torch.export.Dim("batch"))
        for node in program.graph.nodes:  # stack traces with the paths of this machine
            node.meta = {key: value for key, value in node.meta.items() if key in _KEPT}
        # Not to the file: on a full disk torch's writer ends the process.
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={KEY: encode(description)})
        path.write_bytes(content.getbuffer())


def exported_program(
    net: ExportedModule, example: Tensor, batch: object
) -> torch.export.ExportedProgram:
    """Trace a net.

    Args:
        net: in eval mode, on the CPU.
        example: two samples, such as uint8 images [2, C, H, W].
        batch: the range of batch sizes, a `torch.export.Dim`.
    """
    with torch.no_grad():
        program = torch.export.export(net, (example,), dynamic_shapes=(net.dynamic_sizes(batch),))
        # SimKD turns autocast off around its classifier, which is a graph within the graph.
        nested = any(hasattr(program.graph_module, f"submod_{n}") for n in range(1, 3))
        return program.run_decompositions({}) if nested else program


_KEPT = ("val", "tensor_meta")
