"""The file of a compressed student for a device, by which the compression is judged."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from kd.data.datamodule import ImageDataModule
from kd.deploy.compression.groups import import_torch_pruning
from kd.deploy.compression.settings import Compression
from kd.deploy.cost.latency import Latency, measure
from kd.deploy.exporting.compare import accuracy
from kd.deploy.exporting.description import Precision
from kd.deploy.exporting.export import Request, export
from kd.deploy.exporting.formats import check_installed
from kd.deploy.exporting.int8_images import calibration_images, validation_images
from kd.deploy.exporting.sheet import is_former_export, sheet_files
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.io.atomic import write_atomic
from kd.io.checksums import read_intact
from kd.io.run_folder import RunFolder

_CALIBRATION_IMAGES = 512
_ANY = 100.0  # points: all accuracy may be lost


class ModelFile(NamedTuple):
    """A student in a file, with its figures.

    Attributes:
        path: of the file, perhaps a temporary one.
        val_acc: accuracy of the file on validation, a fraction.
        test_acc: on the test set; None: not tested.
        latencies: of batches of 1 and of 64 images.
    """

    path: Path
    val_acc: float
    test_acc: float | None
    latencies: list[Latency]


def check_possible(run: FinishedRun, compression: Compression) -> None:
    """Refuse what would fail after the training.

    Raises:
        UserError: a package is not installed, or the data lack the images for an int8 file.
    """
    if compression.prune == "channels":
        import_torch_pruning()
    if compression.quantise == "int8":
        if reason := no_onnx(run):
            raise UserError(f"quantise=int8 writes an int8 ONNX file: {reason}")
        calibration_images(run.data, _CALIBRATION_IMAGES)


def no_onnx(run: FinishedRun) -> str:
    """Return why no ONNX file of the run's student can be written; empty if one can."""
    try:
        check_installed("onnx")
    except UserError as error:
        return str(error)
    if not isinstance(run.data, ImageDataModule):
        return run.data.limits.images or "its images are not held as uint8"
    return ""


@contextmanager
def model_file(
    run: FinishedRun, precision: Precision, most: float, command: str
) -> Iterator[ModelFile]:
    """Provide a run's student as a temporary ONNX file, or its weights where ONNX is impossible.

    Args:
        run: the finished run.
        precision: fp32 or int8; for int8, layers stay in fp32 until validation loses at most `most`
            points, if that is possible.
        most: see `precision`; negative: nothing helps any more.
        command: as typed, for the sheet.
    """
    if no_onnx(run):
        yield _weights(run)
        return
    with tempfile.TemporaryDirectory(prefix="kd.compress.") as scratch:
        request = Request(
            format="onnx",
            precision=precision,
            output=Path(scratch) / f"student-{precision}.onnx",
            max_drop=most if most >= 0 else _ANY,
            max_test_drop=_ANY,  # validation judges the file
            force=precision == "int8",
            calibration_images=_CALIBRATION_IMAGES,
            command=command,
        )
        yield _figures(run, export(run, request))


def keep(file: Path, folder: Path) -> Path:
    """Copy a temporary ONNX file and its sheet, which replace those of an earlier compression.

    Args:
        file: in a temporary folder.
        folder: where it goes.

    Raises:
        UserError: something else lies there.
        OSError: it cannot be written.
    """
    final = folder / file.name
    if final.exists() and not is_former_export(final):
        raise UserError(f"{final} exists and is not an earlier export; remove it")
    # The sheet last: without it, a file is not taken for an export.
    new = (file, *reversed(sheet_files(file)))
    try:
        for path in new:
            write_atomic(folder / path.name, path.read_bytes())
    except OSError:
        for path in new:  # a file without its sheet would be in the way of the next one
            (folder / path.name).unlink(missing_ok=True)
        raise
    return final


@torch.no_grad()
def net_accuracy(run: FinishedRun) -> float:
    """Return the accuracy of a run's student on validation, in fp32, a fraction."""
    net = run.student.net
    right = [net(b.input).argmax(1) == b.target for b in run.data.val_dataloader()]
    return float(torch.cat(right).float().mean())


@torch.no_grad()
def _weights(run: FinishedRun) -> ModelFile:
    net, weights = run.student.net, RunFolder(run.folder).weights
    batches = [torch.zeros(size, *run.data.input_shape) for size in (1, 64)]
    latencies = [measure(net, batch) for batch in batches]
    return ModelFile(weights, net_accuracy(run), run.result.get("test/acc"), latencies)


def _figures(run: FinishedRun, file: Path) -> ModelFile:
    from kd.deploy.runtimes.onnx import OnnxFile

    images, targets = validation_images(run.data)
    sheet = read_intact(sheet_files(file)[0]) or {}
    latencies = [
        Latency(**{k: v for k, v in each.items() if k != "noisy"}) for each in sheet["latency"]
    ]
    val_acc = accuracy(OnnxFile(file), images, targets)
    return ModelFile(file, val_acc, sheet["comparison"]["accuracy"], latencies)
