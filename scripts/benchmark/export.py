"""ONNX files of finished runs in fp32, fp16 and int8, side by side: accuracy, bytes and speed.

python scripts/benchmark/export.py outputs/runs/NAME
python scripts/benchmark/export.py outputs/runs/A outputs/runs/B --output files --threads 1 2

Each file is compared with its student over the whole test set. The speeds are measured in one
process, in turn, so that the files share its conditions.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from machine import describe

from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.compare import student_logits
from kd.deploy.exporting.export import export
from kd.deploy.exporting.request import Request
from kd.deploy.exporting.sheet import sheet_files
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.onnx import OnnxFile
from kd.io.checksums import read_intact

BATCHES = (64, 1)
HEAD = (
    "| | accuracy | largest difference of a logit | same class | bytes | × fp32 | "
    "images/s at 64 | × fp32 | per CPU second | × fp32 | images/s at 1 | × fp32 |"
)
Call = Callable[[NDArray[np.uint8]], object]


class Speed(NamedTuple):
    """Images per second of a repeat: by the clock, and by the processor time of all threads.

    On a machine that is shared with other processes the two differ, and the second one is the
    file's own.
    """

    clock: float
    processor: float


Speeds = dict[str, list[Speed]]  # of each repeat, by row


class Exported(NamedTuple):
    """A file and the content of its sheet."""

    path: Path
    sheet: dict[str, Any]


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    for folder in options.runs:
        run = FinishedRun(folder)
        files = {name: exported(run, name, options) for name in ["fp32", *options.precisions]}
        for threads in options.threads:
            torch.set_num_threads(threads)
            speeds = {batch: measured(run, files, batch, threads, options) for batch in BATCHES}
            print("\n".join(lines(run, files, speeds, threads, options)), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("export", description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/benchmark"), help="where the files go"
    )
    parser.add_argument(
        "--precisions", nargs="*", choices=["fp16", "int8"], default=["fp16", "int8"]
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[torch.get_num_threads()])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="of a repeat of each file")
    return parser.parse_args()


def exported(run: FinishedRun, precision: Any, options: argparse.Namespace) -> Exported:
    """Export a student; a file that loses too much accuracy is a result as well."""
    path = options.output / run.folder.name / f"student-{precision}.onnx"
    command = f"python scripts/benchmark/export.py {' '.join(sys.argv[1:])}"
    request = Request("onnx", precision, path, force=True, latency=False, command=command)
    file = export(run, request)
    print(f"  {file}", file=sys.stderr)
    return Exported(file, read_intact(sheet_files(file)[0]) or {})


def measured(
    run: FinishedRun,
    files: dict[str, Exported],
    batch: int,
    threads: int,
    options: argparse.Namespace,
) -> Speeds:
    """Measure the student and its files in turn."""
    test = raw_test_images(run.data)
    images = test[torch.arange(batch) % len(test)].numpy()
    calls: dict[str, Call] = {"student, torch": student_logits(run.student)}
    calls |= {f"ONNX {name}": OnnxFile(file.path, threads).logits for name, file in files.items()}
    speeds: Speeds = {name: [] for name in calls}
    for repeat in range(1 + options.repeats):
        for name, call in calls.items():
            times = zip(*timed(call, images, options.seconds), strict=True)
            if repeat:  # the first one warms up
                speeds[name].append(Speed(*(batch / statistics.median(each) for each in times)))
    return speeds


def timed(call: Call, images: NDArray[np.uint8], seconds: float) -> Iterator[tuple[float, float]]:
    """Yield the seconds of each call, by the clock and of the processor."""
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        processor = time.process_time()
        call(images)
        yield time.perf_counter() - start, time.process_time() - processor


def lines(
    run: FinishedRun,
    files: dict[str, Exported],
    speeds: dict[int, Speeds],
    threads: int,
    options: argparse.Namespace,
) -> Iterator[str]:
    """Yield the lines of a table: medians over the repeats, and the range at batch 64."""
    import onnxruntime

    result, test = run.result, files["fp32"].sheet["comparison"]
    yield (
        f"### {run.folder.name}: {result['student']} by {result['method']} on {result['data']}, "
        f"{test['images']} test images, {threads} threads, median of {options.repeats} (from - to)"
    )
    yield f"\n{describe(torch.device('cpu'))}, onnxruntime {onnxruntime.__version__}\n"
    yield from (HEAD, f"|---|{'--:|' * (HEAD.count('|') - 2)}")
    for name in speeds[64]:
        file = files.get(name.removeprefix("ONNX "))
        cells = (
            [f"{test['student_accuracy']:.4f}", *[""] * 4]
            if file is None
            else compared(file.sheet, files["fp32"].sheet["bytes"])
        )
        yield f"| {' | '.join([name, *cells, *rates(name, speeds)])} |"
    yield ""
    for name, file in files.items():
        kept = file.sheet.get("notes", {}).get("layers in fp32")
        yield from ([f"{name}: layers in fp32: {kept}\n"] if kept else [])
        yield from ([f"{name}: {file.sheet['problem']}\n"] if file.sheet["problem"] else [])


def compared(sheet: dict[str, Any], fp32_bytes: int) -> list[str]:
    """Return the cells of a file's comparison with its student."""
    found = sheet["comparison"]
    difference = "not finite" if found["difference"] is None else f"{found['difference']:.2g}"
    return [
        f"{found['accuracy']:.4f}",
        difference,
        f"{found['agreement']:.4f}",
        str(sheet["bytes"]),
        f"{sheet['bytes'] / fp32_bytes:.3f}",
    ]


def rates(name: str, speeds: dict[int, Speeds]) -> Iterator[str]:
    """Yield images/s and their ratio to the fp32 file, by batch size."""
    for batch, rows in speeds.items():
        mine, its = rows[name], rows["ONNX fp32"]
        clock = [speed.clock for speed in mine]
        spread = f" ({min(clock):.0f} - {max(clock):.0f})" if batch == 64 else ""
        yield f"{statistics.median(clock):.0f}{spread}"
        yield ratio(clock, [speed.clock for speed in its])
        if batch == 64:
            processor = [speed.processor for speed in mine]
            yield f"{statistics.median(processor):.0f}"
            yield ratio(processor, [speed.processor for speed in its])


def ratio(mine: list[float], its: list[float]) -> str:
    """Return the median over the repeats of the ratio of two speeds."""
    return f"{statistics.median(a / b for a, b in zip(mine, its, strict=True)):.2f}"


if __name__ == "__main__":
    main()
