"""Measurements of compressed students: accuracy of their ONNX files, sizes, MACs and latencies."""

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parent / "benchmark"))  # machine

import comparison as compare
import numpy as np
import onnxruntime
import torch
from machine import describe

from kd.deploy.cost.latency import measure
from kd.deploy.cost.macs import count_macs
from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.compare import in_batches
from kd.deploy.exporting.description import Precision
from kd.deploy.exporting.export import Request, export
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.onnx import OnnxFile
from kd.io.atomic import write_atomic
from kd.objectives.kd import kl_per_sample

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
BATCHES = (1, 64)
_ROUNDS = 5  # of the latencies; in each, every file is measured once
_ANY_DROP = 100.0  # points: no layer is returned to fp32

Figures = dict[str, Any]


class Job(NamedTuple):
    """A finished run: its row in a table, its seed, its folder."""

    row: str
    seed: int
    folder: Path


def finished(folder: Path) -> Iterator[Job]:
    """Yield the completed runs below a folder, which are named ROW_sSEED."""
    for path in sorted(folder.glob("*_s*")):
        row, _, seed = path.name.rpartition("_s")
        if compare.read(path).get("status") == "completed":
            yield Job(row, int(seed), path)


def measure_runs(folder: Path, results: Path) -> None:
    """Measure every completed run below a folder that has no measurement yet."""
    for job in finished(folder):
        file = results / f"{job.folder.name}.json"
        if not file.is_file():
            write_json(file, {"row": job.row, "seed": job.seed, **figures(job.folder)})
            print(f"measured: {file}", flush=True)


def figures(folder: Path) -> Figures:
    """Export a run to ONNX in fp32 and int8, and compare both files on the test set.

    Returns:
        fp32/acc, int8/acc: test accuracies, fractions. drop: accuracy lost by int8, in points.
        agreement: share of test images with equal classes. kl: mean KL(fp32 ‖ int8) at T = 1, nats.
        fp32/bytes, int8/bytes: sizes of the files. params, macs: of the student.
    """
    run = FinishedRun(folder)
    images, targets = raw_test_images(run.data), run.data.test_targets
    files = exported(run)
    logits = {
        name: torch.from_numpy(in_batches(OnnxFile(file, threads=1).logits, images))
        for name, file in files.items()
    }
    correct = {name: int((each.argmax(1) == targets).sum()) for name, each in logits.items()}
    exact, rounded = (logits[name].log_softmax(1) for name in PRECISIONS)
    return {
        **{f"{name}/acc": found / len(targets) for name, found in correct.items()},
        **{f"{name}/bytes": file.stat().st_size for name, file in files.items()},
        "drop": 100 * (correct["fp32"] - correct["int8"]) / len(targets),
        "agreement": float((exact.argmax(1) == rounded.argmax(1)).double().mean()),
        "kl": float(kl_per_sample(rounded, exact).double().mean()),
        "test/images": len(targets),
        "params": run.result["student/params"],
        "macs": count_macs(run.student, images[:1]),
        "config_hash": run.result["config_hash"],
        "git_commit": run.result["git_commit"],
    }


def exported(run: FinishedRun) -> dict[Precision, Path]:
    """Write a run's ONNX files as `kd.export` does; all layers of the second are in int8."""
    return {
        name: export(run, Request("onnx", name, file, max_drop=_ANY_DROP, latency=False))
        for name, file in onnx_files(run.folder).items()
    }


def onnx_files(folder: Path) -> dict[Precision, Path]:
    """Return the files of a run by precision, in a folder beside the run's own."""
    return {name: folder.parent / "onnx" / folder.name / f"{name}.onnx" for name in PRECISIONS}


def measure_latencies(folder: Path, results: Path) -> None:
    """Measure the files of the first seed of each row, in turns, on one thread of this machine.

    In turns, because a busy minute would otherwise make one file look slow.
    """
    first = min((job.seed for job in finished(folder)), default=0)
    files = {
        f"{job.row}/{name}": OnnxFile(file, threads=1)
        for job in finished(folder)
        if job.seed == first
        for name, file in onnx_files(job.folder).items()
    }
    earlier = json.loads(results.read_text()) if results.is_file() else {}
    if not files or earlier.keys() >= {"machine", *files}:
        return
    times: dict[str, dict[int, list[float]]] = {key: {b: [] for b in BATCHES} for key in files}
    for _ in range(_ROUNDS):
        for key, file in files.items():
            for batch in BATCHES:
                times[key][batch].append(latency(file, batch))
    found = {
        key: {f"batch{batch}": summary(values) for batch, values in by_batch.items()}
        for key, by_batch in times.items()
    }
    runtime = f"onnxruntime {onnxruntime.__version__} on 1 thread"
    write_json(results, {"machine": f"{describe(torch.device('cpu'))}, {runtime}", **found})


def latency(file: OnnxFile, batch: int) -> float:
    """Return the median latency of a file on random images, in milliseconds."""
    described = file.description
    assert described is not None
    channels = described["channels"]
    assert channels is not None  # of an image
    shape = (batch, channels, *described["input_size"])
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return measure(file.logits, images, threads=1).p50_ms


def summary(values: list[float]) -> Figures:
    """Return median, lowest and highest of the rounds' medians, in milliseconds."""
    return {"ms": statistics.median(values), "low": min(values), "high": max(values)}


def write_json(file: Path, content: Figures) -> None:
    """Write a measurement, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, (json.dumps(content, indent=1) + "\n").encode())
