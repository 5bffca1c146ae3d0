"""Figures of a student before and after compression."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kd.deploy.compression.magnitude import gzip_bytes, sparsity
from kd.deploy.compression.model_file import ModelFile
from kd.deploy.compression.settings import Compression
from kd.deploy.cost.macs import count_macs
from kd.deploy.finished_run import FinishedRun
from kd.models.sizing import count_parameters


@dataclass(frozen=True)
class Measured:
    """A student before or after compression.

    Attributes:
        label: how it was compressed.
        folder: its run folder.
        file: the model file that was written; None: none, since it loses too much.
        val_acc: accuracy of the file on validation, a fraction.
        drop: accuracy lost on validation, in points; negative for a gain.
        test_acc: accuracy of the file on the test set; None: not tested.
        parameters: of the net.
        sparsity: share of the weights of convolutions and linear layers that are zero.
        macs: multiply-accumulate operations of an image.
        file_bytes: of the file.
        gzip_bytes: of the same after gzip, which alone shows what pruning by magnitude saves.
        latency_ms: median time of a batch of one image on this machine's CPU.
        latency64_ms: of a batch of 64.
        noisy: the machine was too busy for the latencies to be trusted.
        within: the loss is at most `max_drop`.
    """

    label: str
    folder: str
    file: str | None
    val_acc: float
    drop: float
    test_acc: float | None
    parameters: int
    sparsity: float
    macs: int
    file_bytes: int
    gzip_bytes: int
    latency_ms: float
    latency64_ms: float
    noisy: bool
    within: bool

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def kept_at(self, file: Path) -> "Measured":
        return replace(self, file=str(file))


@torch.no_grad()
def measured(
    run: FinishedRun,
    file: ModelFile,
    compression: Compression | None = None,
    before: Measured | None = None,
) -> Measured:
    """Measure the student of a finished run and its file.

    Args:
        run: the finished run.
        file: of its student.
        compression: how it was compressed; None: it was not.
        before: the uncompressed student; None: it is this one.
    """
    net, content = run.student.net, file.path.read_bytes()
    # 0.7 − 0.69 is not above one point.
    drop = 0.0 if before is None else round(100 * (before.val_acc - file.val_acc), 6)
    return Measured(
        label="uncompressed" if compression is None else compression.label,
        folder=str(run.folder),
        file=str(file.path) if file.path.is_relative_to(run.folder) else None,
        val_acc=file.val_acc,
        drop=drop,
        test_acc=file.test_acc,
        parameters=count_parameters(net),
        sparsity=sparsity(net).fraction,
        macs=count_macs(net, torch.zeros(1, *run.data.input_shape)),
        file_bytes=len(content),
        gzip_bytes=gzip_bytes(content),
        latency_ms=file.latencies[0].p50_ms,
        latency64_ms=file.latencies[1].p50_ms,
        noisy=any(each.noisy for each in file.latencies),
        within=compression is None or drop <= compression.max_drop,
    )
