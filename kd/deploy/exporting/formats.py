"""Formats of exported models, and the precisions of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

from kd.errors import UserError, nearest


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffix: of its files.
        precisions: that it is written in.
        packages: modules that write and run it, beside torch.
        extra: of `pip install -e '.[EXTRA]'` that brings them.
    """

    suffix: str
    precisions: tuple[str, ...]
    packages: tuple[str, ...] = ()
    extra: str = ""


FORMATS: Mapping[str, Format] = {
    "onnx": Format(
        ".onnx", ("fp32", "fp16", "int8"), ("onnx", "onnxscript", "onnxruntime"), "onnx"
    ),
    "torch_export": Format(".pt2", ("fp32", "fp16")),
    "executorch": Format(".pte", ("fp32",), ("executorch",), "executorch"),
    "openvino": Format(".xml", ("fp32", "fp16"), ("openvino",), "openvino"),
    "safetensors": Format(".safetensors", ("fp32", "fp16")),
}
PRECISIONS = ("fp32", "fp16", "int8")
# First torch whose .pt2 archives hold weights as raw numbers
_RAW_WEIGHTS = (2, 9)
MIN_CALIBRATION = 32  # images behind the ranges of int8 activations


def find_format(name: object, precision: object) -> Format:
    """Return a format that is written in a precision.

    Raises:
        UserError: there is no such format or precision, or the format is not written in it.

    Example:
        >>> find_format("torch_export", "fp16").suffix
        '.pt2'
        >>> find_format("tflite", "int8")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        kd.errors.UserError: format=tflite: there is no such format; valid: executorch, onnx, ...
    """
    if name not in FORMATS:
        raise UserError(f"format={name}: there is no such format; {nearest(name, FORMATS)}")
    if precision not in PRECISIONS:
        raise UserError(
            f"precision={precision}: there is no such precision; {nearest(precision, PRECISIONS)}"
        )
    found = FORMATS[str(name)]
    if precision not in found.precisions:
        others = [f"format={other}" for other, f in FORMATS.items() if precision in f.precisions]
        raise UserError(
            f"format={name} precision={precision}: {name} is written in "
            f"{', '.join(found.precisions)}; {precision} is written by {' or '.join(others)}"
        )
    return found


def check_installed(name: str) -> None:
    """Refuse a format whose packages are not installed.

    Raises:
        UserError: one is not, or torch is too old.
    """
    wanted = FORMATS[name]
    torch = version("torch")
    if name == "torch_export" and tuple(map(int, torch.split(".")[:2])) < _RAW_WEIGHTS:
        raise UserError(
            f"format=torch_export needs torch 2.9 or later: torch {torch} pickles the weights, and "
            "kd reads no pickles of programs"
        )
    missing = [package for package in wanted.packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"format={name} needs {', '.join(missing)}: pip install -e '.[{wanted.extra}]'"
        )
