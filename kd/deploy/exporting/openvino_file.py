"""Export to OpenVINO's intermediate representation (.xml, with the weights in a .bin beside it)."""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from kd.deploy.exporting.description import KEY, Description, encode
from kd.deploy.exporting.exported_net import ExportedModule
from kd.deploy.exporting.torch_export_file import exported_program


def write_openvino(
    net: ExportedModule, example: Tensor, description: Description, path: Path
) -> None:
    """Write a net as an OpenVINO model that takes batches of any size.

    With precision fp16 the weights are stored as float16; OpenVINO chooses the type of the
    arithmetic when it compiles the model for a device.

    Args:
        net: in eval mode, on the CPU, in float32.
        example: two samples, such as uint8 images [2, C, H, W].
        description: for the metadata of the file.
        path: of the .xml file; it and the .bin file are replaced.

    Raises:
        OSError: the files cannot be written.
    """
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's exporter, about its own functions
        model = openvino.convert_model(exported_program(net, example, torch.export.Dim("batch")))
    model.set_rt_info(encode(description), [KEY])
    try:
        openvino.save_model(model, path, compress_to_fp16=description["precision"] == "fp16")
    except RuntimeError as error:  # its writer gives no number of an error
        raise OSError(f"OpenVINO's writer fails, as on a full disk: {error}") from error
