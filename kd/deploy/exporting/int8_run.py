"""int8 export of a run, calibrated and bounded by the run's own images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from torch import Tensor

from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.compare import accuracy, student_accuracy
from kd.deploy.exporting.description import Description
from kd.deploy.exporting.exported_net import ExportedNet
from kd.deploy.exporting.int8 import Int8Result, write_int8
from kd.deploy.exporting.int8_images import calibration_images, validation_images
from kd.deploy.exporting.onnx_file import write_onnx
from kd.deploy.exporting.request import Request
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.base import ModelFile


def write_int8_of_run(
    run: FinishedRun,
    net: ExportedNet,
    example: Tensor,
    description: Description,
    file: Path,
    request: Request,
) -> dict[str, str]:
    """Write a run's student as an int8 ONNX file; returns rows of its sheet.

    Raises:
        UserError: there are too few images, or the student loses too much accuracy.
        OSError: the file cannot be written.
    """
    calibration = calibration_images(run.data, request.calibration_images)
    images, targets = validation_images(run.data)
    fp32 = file.with_name("fp32.onnx")
    write_onnx(net, example, description, fp32)
    found = write_int8(
        fp32,
        calibration,
        partial(accuracy, images=images, targets=targets),
        request.max_drop,
        file,
        test_drop=None if request.max_test_drop is not None else _test_drop(run),
        force=request.force,
    )
    return _rows(found)


def _test_drop(run: FinishedRun) -> Callable[[ModelFile], float]:
    """Return the function that measures the points a file loses on the test images."""
    images, targets = raw_test_images(run.data), run.data.test_targets
    exact = student_accuracy(run.student, images, targets)
    return lambda file: 100 * (exact - accuracy(file, images, targets))


def _rows(found: Int8Result) -> dict[str, str]:
    accuracies = f"{found.fp32_accuracy:.4f}, {found.int8_accuracy:.4f}"
    return {
        "quantisation": found.scheme,
        "calibration": f"{found.calibration_images} training images",
        "layers in fp32": f"{len(found.fp32_layers)} of {found.layers}: "
        f"{', '.join(found.fp32_layers) or 'none'}",
        "validation accuracy, fp32 and int8": accuracies,
        "choices of layers compared on the test set": str(found.tested),
    }
