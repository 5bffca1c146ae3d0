"""Benchmark of total cost against epochs, sweep jobs and images: live, cached and no teacher.

python scripts/benchmark/growth.py outputs/reference/growth.png
"""

import argparse
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from machine import describe
from project import Project

WAYS = {
    "live teacher": ("kd", "off"),
    "cached teacher, cold at first": ("kd", "on"),
    "no teacher": ("ce", "off"),
}
STEPS = (1, 2, 4, 8)
Settings = list[tuple[int, int, int]]
Costs = dict[str, list[tuple[float, int]]]


def main() -> None:
    parser = argparse.ArgumentParser("growth", description=__doc__.split("\n")[0])
    parser.add_argument("figure", type=Path, help="the PNG to write")
    parser.add_argument("--pair", nargs=2, default=["deepnn", "lightnn"])
    parser.add_argument("--images", type=int, default=4500, help="training images per epoch")
    parser.add_argument(
        "--sweep", type=int, metavar="EPOCHS", help="measure only eight jobs of EPOCHS epochs"
    )
    options = parser.parse_args()
    axes = {
        "epochs": [(options.images, n, 1) for n in STEPS],
        "jobs of a sweep, two epochs each": [(options.images, 2, n) for n in STEPS],
        "images, two epochs": [(options.images * n // 2, 2, 1) for n in STEPS],
    }
    print(describe(torch.device("cpu")))
    if options.sweep:
        ways = list(WAYS)[1:]
        costs = {way: cost(options.pair, way, options.images, options.sweep, 8) for way in ways}
        for way, (seconds, forwards) in costs.items():
            print(f"eight jobs of {options.sweep} epochs, {way}: {seconds:.1f} s, {forwards}")
        print(f"ratio {costs[ways[0]][0] / costs[ways[1]][0]:.3f}")
        return
    found = {}
    for axis, settings in axes.items():
        found[axis] = {way: [cost(options.pair, way, *s) for s in settings] for way in WAYS}
        print(table(axis, settings, found[axis]))
    draw(options.figure, axes, found, options.pair)


def cost(pair: list[str], way: str, images: int, epochs: int, jobs: int) -> tuple[float, int]:
    """Return seconds of complete runs and the number of teacher forwards, from an empty cache."""
    method, mode = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        project = Project(pair[0], pair[1], (3, 32, 32), images, Path(folder), ["trainer=cpu"])
        seconds, forwards = 0.0, 0
        for job in range(jobs):
            temperature, alpha = (1, 2, 4, 8)[job % 4], (0.5, 0.9)[job // 4]
            knobs = [f"method.temperature={temperature}", f"method.alpha={alpha}"]
            knobs = knobs if method == "kd" else []
            result = project.run(f"teacher.cache.mode={mode}", *knobs, method=method, epochs=epochs)
            seconds += result["seconds"]
            forwards += result["teacher_forwards"]
        return seconds, forwards


def table(axis: str, settings: Settings, found: Costs) -> str:
    """Format the costs along one axis."""
    position = 1 if axis == "epochs" else 2 if "jobs" in axis else 0
    values = [str(setting[position]) for setting in settings]
    lines = [f"\n| seconds (teacher forwards), {axis}: | {' | '.join(values)} |"]
    lines.append("|---|" + "--:|" * len(values))
    for way, costs in found.items():
        cells = [f"{seconds:.1f} ({forwards})" for seconds, forwards in costs]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(figure: Path, axes: dict[str, Settings], found: dict[str, Costs], pair: list[str]) -> None:
    canvas, plots = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for plot, (axis, settings) in zip(plots, axes.items(), strict=True):
        position = 1 if axis == "epochs" else 2 if "jobs" in axis else 0
        for way, costs in found[axis].items():
            plot.plot([s[position] for s in settings], [c[0] for c in costs], "o-", label=way)
        plot.set(xlabel=axis, ylim=(0, None), xlim=(0, None))
        plot.grid(alpha=0.3)
    plots[0].set_ylabel("seconds of whole runs")
    plots[0].legend(frameon=False)
    canvas.suptitle(f"{pair[0]} teaches {pair[1]}, CIFAR-size images, {_processor()}")
    canvas.savefig(figure, dpi=150)


def _processor() -> str:
    return describe(torch.device("cpu")).split(", Python")[0]


if __name__ == "__main__":
    main()
