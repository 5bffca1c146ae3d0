"""Export to ONNX."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from kd.deploy.exporting.description import KEY, Description, encode
from kd.deploy.exporting.exported_net import ExportedNet

INPUT, OUTPUT = "images", "logits"


def write_onnx(net: ExportedNet, example: Tensor, description: Description, path: Path) -> None:
    """Write a net as an ONNX file that takes batches of any size.

    Args:
        net: in eval mode, on the CPU.
        example: uint8 images [2, C, H, W].
        description: for the metadata of the file.
        path: of the file, which is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    import onnx

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own deprecated functions
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {KEY: encode(description)})
    path.write_bytes(model.SerializeToString())
