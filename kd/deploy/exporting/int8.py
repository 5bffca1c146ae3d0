"""Export to int8 ONNX within a bound on the accuracy that is lost."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.deploy.exporting.int8_images import MIN_IMAGES
from kd.deploy.exporting.int8_quantiser import Int8Quantiser
from kd.deploy.exporting.int8_sensitivity import sensitivities
from kd.deploy.exporting.int8_trial import opened
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.runtimes.onnx import OnnxFile
from kd.errors import UserError
from kd.io.atomic import write_atomic

log = logging.getLogger(__name__)

SCHEME = (
    "onnxruntime static quantisation (QDQ): int8 weights, symmetric, per output channel; uint8 "
    "activations, per tensor, with the minimum and maximum over the calibration images"
)


class Int8Result(NamedTuple):
    """What was written.

    Attributes:
        fp32_accuracy: of the fp32 file, a fraction, as `evaluate` returned it.
        int8_accuracy: of the int8 file.
        layers: number of layers with weights.
        fp32_layers: names of those that were kept in fp32, the most sensitive first.
        calibration_images: number of images behind the ranges of the activations.
        scheme: how the net was quantised.
    """

    fp32_accuracy: float
    int8_accuracy: float
    layers: int
    fp32_layers: tuple[str, ...]
    calibration_images: int
    scheme: str = SCHEME

    @property
    def drop(self) -> float:
        """Accuracy lost, in points; negative for a gain."""
        return 100 * (self.fp32_accuracy - self.int8_accuracy)


def write_int8(
    fp32_file: Path,
    calibration: NDArray[np.uint8],
    evaluate: Callable[[ModelFile], float],
    max_drop: float,
    path: Path,
    *,
    force: bool = False,
) -> Int8Result:
    """Quantise an ONNX file; layers that cost too much accuracy stay in fp32.

    If the net with all layers in int8 loses more than `max_drop`, the layers are ranked by their
    sensitivity and returned to fp32 one after the other until the bound holds.

    Args:
        fp32_file: ONNX file, as `write_onnx` writes it.
        calibration: uint8 training images [N, C, H, W].
        evaluate: the accuracy of a model file, a fraction, on images that are not the test images:
            it selects the layers.
        max_drop: the most that may be lost, in points.
        path: of the int8 file, which is replaced.
        force: write the file with all layers in int8 where no choice of layers is within
            `max_drop`.

    Raises:
        UserError: there are too few calibration images, an operator cannot be quantised, or the
            bound does not hold with a single layer in int8.
        OSError: the file cannot be written.
    """
    if len(calibration) < MIN_IMAGES:
        raise UserError(
            f"{len(calibration)} calibration images are too few for the ranges of int8 "
            f"activations; give at least {MIN_IMAGES}"
        )
    quantiser = Int8Quantiser(fp32_file, calibration)
    fp32_accuracy = evaluate(OnnxFile(fp32_file))

    def result(model: bytes, fp32_layers: Sequence[str]) -> Int8Result:
        with opened(model) as file:
            accuracy = evaluate(file)
        kept = tuple(fp32_layers)
        return Int8Result(fp32_accuracy, accuracy, len(quantiser.layers), kept, len(calibration))

    model = every_layer = quantiser.quantised()
    found = lost = result(model, ())
    if found.drop > max_drop:
        for kept in _choices(quantiser, calibration, found, max_drop):
            model = quantiser.quantised(kept)
            found = result(model, kept)
            log.info("int8: %d layers in fp32: %+.2f points", len(kept), -found.drop)
            if found.drop <= max_drop:
                break
        else:
            if not force:
                raise UserError(_too_much(lost, found, max_drop))
            model, found = every_layer, lost
    write_atomic(path, model)
    return found


def _choices(
    quantiser: Int8Quantiser, images: NDArray[np.uint8], lost: Int8Result, max_drop: float
) -> Iterator[list[str]]:
    """Yield the layers to keep in fp32: the most sensitive one, the two most sensitive ones, …"""
    log.info(
        "int8 loses %.2f points, max_drop=%s: ranking %d layers", lost.drop, max_drop, lost.layers
    )
    costs = sensitivities(quantiser, images)
    ranked = sorted(costs, key=lambda name: costs[name], reverse=True)
    for count in range(1, len(ranked)):
        yield ranked[:count]


def _too_much(every_layer: Int8Result, last: Int8Result, max_drop: float) -> str:
    return (
        f"int8 loses {every_layer.drop:.2f} points of accuracy with all {every_layer.layers} "
        f"layers, and {last.drop:.2f} with all but {last.layers - len(last.fp32_layers)} in fp32; "
        f"max_drop={max_drop}. Nothing is written: raise max_drop, or write the file with all "
        "layers in int8 by force=true"
    )
