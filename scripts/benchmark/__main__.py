"""Benchmark of distillation against hand-written training loops.

python scripts/benchmark
python scripts/benchmark --pairs deepnn-lightnn --images 45000 --epochs 10 --repeats 3
python scripts/benchmark --accelerator gpu --override trainer.precision=bf16-mixed

All rows of a table are measured in one process, in turn, so that they share its conditions.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from loops import loaders, train
from machine import describe, peak_mb, reset_peak
from project import Project

PAIRS = {
    "deepnn-lightnn": ("deepnn", "lightnn", (3, 32, 32)),
    "resnet56-resnet20": ("resnet56", "resnet20", (3, 32, 32)),
    "resnet18-resnet8": ("resnet18", "resnet8", (3, 32, 32)),
    "mlp1200-mlp800": ("mlp1200", "mlp800", (1, 28, 28)),
}
FLOOR = "by hand, preloaded, student alone (the floor)"
TUTORIAL = "by hand, per sample, live teacher, {} workers"


class Cost(NamedTuple):
    """One repeat: seconds for all epochs, images passed through the teacher, peak memory in MB."""

    seconds: float
    forwards: int
    peak: float


Row = Callable[[], tuple[float, int]]  # trains; returns seconds and teacher forwards


def main() -> None:
    options = arguments()
    device = torch.device("cuda" if options.accelerator == "gpu" else "cpu")
    print(describe(device))
    print(f"`python scripts/benchmark {' '.join(sys.argv[1:])}`\n")
    for pair in options.pairs:
        with tempfile.TemporaryDirectory() as folder:
            teacher, student, shape = PAIRS[pair]
            overrides = [f"trainer={options.accelerator}", *options.override]
            project = Project(teacher, student, shape, options.images, Path(folder), overrides)
            costs = measured(rows(project, options, device), options)
            print(table(pair, costs, project.images_an_epoch, options))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--images", type=int, default=9000, help="training images per epoch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument(
        "--skip",
        nargs="*",
        default=[],
        help="leave out rows whose names contain one of these words",
    )
    parser.add_argument("--override", nargs="*", default=[], help="of the rows of this project")
    return parser.parse_args()


def rows(project: Project, options: argparse.Namespace, device: torch.device) -> dict[str, Row]:
    """Return the rows by name; each call trains a new student for all epochs."""
    images = project.images()
    preloaded = loaders(images, 128, device, None)

    def by_hand(workers: int | None, taught: bool) -> tuple[float, int]:
        teacher = project.net("teacher") if taught else None
        make = (
            (lambda: preloaded)
            if workers is None
            else (lambda: loaders(images, 128, device, workers))
        )
        seconds = train(project.net("student"), teacher, make, options.epochs, device)
        return seconds, taught * options.epochs * project.images_an_epoch

    def ours(method: str, cache: str = "off") -> tuple[float, int]:
        override = f"teacher.cache.mode={cache}"
        result = project.run(override, method=method, epochs=options.epochs)
        # The 1 000 test images pass through the teacher as well, unless their outputs are cached.
        tested = 0 if method == "ce" or cache == "on" else 1000
        return result["fit_seconds"], result["teacher_forwards"] - tested

    return {
        TUTORIAL.format(0): lambda: by_hand(0, True),
        TUTORIAL.format(2): lambda: by_hand(2, True),
        "by hand, preloaded, live teacher": lambda: by_hand(None, True),
        FLOOR: lambda: by_hand(None, False),
        "kd, live teacher": lambda: ours("kd", "off"),
        "kd, cold cache": lambda: ours("kd", "refresh"),
        "kd, warm cache": lambda: ours("kd", "on"),
        "ce": lambda: ours("ce"),
    }


def measured(rows: dict[str, Row], options: argparse.Namespace) -> dict[str, list[Cost]]:
    """Measure every row in turn, `options.repeats` times."""
    wanted = {k: row for k, row in rows.items() if not any(word in k for word in options.skip)}
    costs: dict[str, list[Cost]] = {name: [] for name in wanted}
    for repeat in range(options.repeats):
        for name, row in wanted.items():
            reset_peak()
            costs[name].append(Cost(*row(), peak_mb()))
            speed = options.epochs * options.images / costs[name][-1].seconds
            print(f"  {repeat + 1}/{options.repeats} {name}: {speed:.0f}/s", file=sys.stderr)
    return costs


def table(
    pair: str, costs: dict[str, list[Cost]], an_epoch: int, options: argparse.Namespace
) -> str:
    """Format medians over the repeats, and the range of the speeds."""
    images = options.epochs * an_epoch
    lines = [
        f"### {pair}: {an_epoch} images an epoch, {options.epochs} epochs, "
        f"median of {options.repeats}\n",
        "| | images/s | from – to | time relative to the floor | teacher forwards | peak MB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, row in costs.items():
        seconds = sorted(cost.seconds for cost in row)
        ratios = [mine.seconds / its.seconds for mine, its in zip(row, costs[FLOOR], strict=True)]
        lines.append(
            f"| {name} | {images / statistics.median(seconds):.0f} "
            f"| {images / seconds[-1]:.0f} – {images / seconds[0]:.0f} "
            f"| {statistics.median(ratios):.3f} | {row[-1].forwards} | {row[-1].peak:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
