"""Export to int8 ONNX within a bound on the accuracy that is lost."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd.deploy.exporting.formats import MIN_CALIBRATION
from kd.deploy.exporting.int8_quantiser import Int8Quantiser
from kd.deploy.exporting.int8_sensitivity import sensitivities
from kd.deploy.exporting.int8_trial import in_runtime
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
        test_drop: accuracy lost on the test images, in points; None: not measured.
        tested: number of choices of layers for which it was measured.
        scheme: how the net was quantised.
    """

    fp32_accuracy: float
    int8_accuracy: float
    layers: int
    fp32_layers: tuple[str, ...]
    calibration_images: int
    test_drop: float | None = None
    tested: int = 0
    scheme: str = SCHEME

    @property
    def drop(self) -> float:
        """Accuracy lost, in points; negative for a gain."""
        return 100 * (self.fp32_accuracy - self.int8_accuracy)

    def holds(self, max_drop: float) -> bool:
        """Return whether no more than `max_drop` points are lost, wherever it was measured."""
        return self.drop <= max_drop and (self.test_drop is None or self.test_drop <= max_drop)


def write_int8(
    fp32_file: Path,
    calibration: NDArray[np.uint8],
    evaluate: Callable[[ModelFile], float],
    max_drop: float,
    path: Path,
    *,
    test_drop: Callable[[ModelFile], float] | None = None,
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
        test_drop: the points that a model file loses on the test images, on which the bound is to
            hold as well. It is measured where the bound holds by `evaluate`.
        force: write the file with all layers in int8 where no choice of layers is within
            `max_drop`.

    Raises:
        UserError: there are too few calibration images, an operator cannot be quantised, or the
            bound does not hold with a single layer in int8.
        OSError: the file cannot be written.
    """
    _check_enough(calibration)
    first: tuple[bytes, Int8Result] | None = None
    for model, found in _candidates(fp32_file, calibration, evaluate, max_drop, test_drop):
        first = first or (model, found)
        if found.holds(max_drop):
            break
    else:
        assert first is not None
        if not force:
            raise UserError(_too_much(first[1], found, max_drop))
        model, found = first
    write_atomic(path, model)
    return found


def _check_enough(calibration: NDArray[np.uint8]) -> None:
    if len(calibration) < MIN_CALIBRATION:
        raise UserError(
            f"{len(calibration)} calibration images are too few for the ranges of int8 "
            f"activations; give at least {MIN_CALIBRATION}"
        )


def _candidates(
    fp32_file: Path,
    calibration: NDArray[np.uint8],
    evaluate: Callable[[ModelFile], float],
    max_drop: float,
    test_drop: Callable[[ModelFile], float] | None,
) -> Iterator[tuple[bytes, Int8Result]]:
    """Yield models with more and more layers in fp32, and what each loses."""
    quantiser = Int8Quantiser(fp32_file, calibration)
    fp32_accuracy, tested = evaluate(OnnxFile(fp32_file)), 0
    for kept in _choices(quantiser, calibration, max_drop):
        model = quantiser.quantised(kept)
        file = in_runtime(model)
        found = Int8Result(
            fp32_accuracy, evaluate(file), len(quantiser.layers), kept, len(calibration)
        )
        if test_drop is not None and found.holds(max_drop):
            tested += 1
            found = found._replace(test_drop=test_drop(file))
        log.info("int8: %d layers in fp32: %s", len(kept), _lost(found))
        yield model, found._replace(tested=tested)


def _choices(
    quantiser: Int8Quantiser, images: NDArray[np.uint8], max_drop: float
) -> Iterator[tuple[str, ...]]:
    """Yield the layers to keep in fp32: none, the most sensitive one, the two most sensitive, …"""
    yield ()
    log.info("int8: max_drop=%g is exceeded: ranking %d layers", max_drop, len(quantiser.layers))
    costs = sensitivities(quantiser, images)
    ranked = sorted(costs, key=lambda name: costs[name], reverse=True)
    for count in range(1, len(ranked)):
        yield tuple(ranked[:count])


def _lost(found: Int8Result) -> str:
    test = (
        ""
        if found.test_drop is None
        else f" on the validation and {found.test_drop:.2f} on the test images"
    )
    return f"{found.drop:.2f} points lost{test}"


def _too_much(every_layer: Int8Result, last: Int8Result, max_drop: float) -> str:
    rest = last.layers - len(last.fp32_layers)
    return (
        f"int8 exceeds max_drop={max_drop:g}: {_lost(every_layer)} with all {every_layer.layers} "
        f"layers in int8, and {_lost(last)} with {rest} of them. Nothing is written: raise "
        "max_drop, or write the file with all layers in int8 by force=true"
    )
