"""Export to ExecuTorch (.pte), for phones and boards."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from kd.deploy.exporting.description import KEY, Description, encode
from kd.deploy.exporting.exported_net import ExportedModule
from kd.deploy.exporting.torch_export_file import exported_program

# ExecuTorch plans memory when it exports, for the largest batch that the file will take.
MAX_BATCH = 64


def write_executorch(
    net: ExportedModule, example: Tensor, description: Description, path: Path
) -> None:
    """Write a net for ExecuTorch's XNNPACK backend, which takes up to `MAX_BATCH` images a call.

    The file says how many it takes, see `ModelFile.max_batch`: ExecuTorch may plan for fewer.

    The description is returned by the method `kd` of the file, as the bytes of its JSON.

    Args:
        net: in eval mode, on the CPU.
        example: uint8 images [2, C, H, W].
        description: for the metadata of the file.
        path: of the file, which is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and ExecuTorch, about their own functions
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = exported_program(net, example, torch.export.Dim("batch", min=1, max=MAX_BATCH))
        text = torch.tensor(list(encode(description).encode()), dtype=torch.uint8)
        lowered = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods={KEY: text}
        )
        path.write_bytes(lowered.to_executorch().buffer)
