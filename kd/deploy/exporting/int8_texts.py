"""int8 files of students of texts: onnxruntime's dynamic quantisation, bounded by validation.

The weights are int8, and so are the inputs of each layer, whose range is found when the file runs:
texts of any length need no calibration. Embeddings, most of a small net's weights, are looked up in
int8.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import logging
from pathlib import Path

from torch import Tensor

from kd.data.text import Text
from kd.deploy.exporting.compare import accuracy
from kd.deploy.exporting.description import Description
from kd.deploy.exporting.exported_net import ExportedModule
from kd.deploy.exporting.onnx_file import write_onnx
from kd.deploy.exporting.request import Request
from kd.deploy.runtimes.onnx import OnnxFile
from kd.errors import UserError

log = logging.getLogger(__name__)

SCHEME = "onnxruntime dynamic quantisation: int8 weights, symmetric; activations when the file runs"
# What is quantised, the most first. Convolutions stay in fp32: onnxruntime has no kernel for
# convolutions of one dimension with int8 weights.
_CHOICES: dict[str, list[str]] = {
    "embeddings and matrix products": ["Gather", "MatMul", "Gemm", "LSTM", "Attention"],
    "embeddings": ["Gather"],
    "matrix products": ["MatMul", "Gemm", "LSTM", "Attention"],
}


def write_int8_of_texts(
    data: Text,
    net: ExportedModule,
    example: Tensor,
    description: Description,
    file: Path,
    request: Request,
) -> dict[str, str]:
    """Write a student of texts as int8 ONNX; returns rows of its sheet.

    The first choice of layers that loses at most `max_drop` points on the validation texts is
    taken; with `force`, the first choice where none does.

    Raises:
        UserError: every choice loses more.
        OSError: the file cannot be written.
    """
    fp32 = file.with_name("fp32.onnx")
    write_onnx(net, example, description, fp32)
    ids, targets = _validation(data)
    exact = accuracy(OnnxFile(fp32), ids, targets, data.pad_index)
    lost: dict[str, float] = {}
    for words, operators in _CHOICES.items():
        _quantise(fp32, file, operators)
        found = accuracy(OnnxFile(file), ids, targets, data.pad_index)
        lost[words] = 100 * (exact - found)
        log.info("int8: %s: %.2f points of validation accuracy lost", words, lost[words])
        if lost[words] <= request.max_drop:
            return _rows(words, exact, found)
    if not request.force:
        said = ", ".join(f"{words} {drop:.2f}" for words, drop in lost.items())
        raise UserError(
            f"precision=int8: every choice of layers loses more than max_drop={request.max_drop:g} "
            f"points of validation accuracy ({said}); what works: precision=fp16, or force=true"
        )
    words, operators = next(iter(_CHOICES.items()))
    _quantise(fp32, file, operators)
    return _rows(words, exact, exact - lost[words] / 100)


def _rows(words: str, exact: float, found: float) -> dict[str, str]:
    return {
        "quantisation": SCHEME,
        "in int8": words,
        "validation accuracy, fp32 and int8": f"{exact:.4f}, {found:.4f}",
    }


def _validation(data: Text) -> tuple[Tensor, Tensor]:
    arrays = data.arrays
    if arrays.val_inputs is not None and arrays.val_targets is not None:
        return arrays.val_inputs.cpu(), arrays.val_targets.cpu()
    rows = data.split.val
    return arrays.train_inputs[rows].cpu(), arrays.train_targets[rows].cpu()


def _quantise(fp32: Path, file: Path, operators: list[str]) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the quantiser advises on the root logger
    try:
        quantize_dynamic(fp32, file, op_types_to_quantize=operators, weight_type=QuantType.QInt8)
    finally:
        logging.disable(before)
