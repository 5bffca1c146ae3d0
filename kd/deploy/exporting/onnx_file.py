"""Export to ONNX."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from kd.deploy.exporting.description import KEY, Description, encode
from kd.deploy.exporting.exported_net import ExportedModule


def write_onnx(net: ExportedModule, example: Tensor, description: Description, path: Path) -> None:
    """Write a net as an ONNX file that takes batches of any size.

    Args:
        net: in eval mode, on the CPU.
        example: two samples, such as uint8 images [2, C, H, W].
        description: for the metadata of the file.
        path: of the file, which is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    import onnx
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with warnings.catch_warnings(), _quiet(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own deprecated functions
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            input_names=[net.input_name],
            output_names=list(net.output_names),
            dynamic_shapes=(net.dynamic_sizes(torch.export.Dim("batch")),),
            verbose=False,
        )
    assert program is not None
    # The exporter notes at each node where in the source it stems from, with the paths of this
    # machine: 8 % of the bytes of a ResNet-20.
    ClearMetadataAndDocStringPass()(program.model)
    model = program.model_proto
    onnx.helper.set_model_props(model, {KEY: encode(description)})
    path.write_bytes(model.SerializeToString())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the steps of the exporter's optimiser, logged as information, out of a command's log."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
