"""Benchmark of a training step of every method relative to `kd`, with cached teacher outputs.

python scripts/benchmark/methods.py --batch-size 256

One thread; times are CPU times, which other processes do not lengthen. A step of the method and a
step of `kd` alternate. Methods that compare two views have two images of each sample in their step,
and the rounds of `datafree` are part of its steps: its figure is a mean over ten steps.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # comparison
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from comparison import check_names, image_methods
from machine import describe, peak_mb, reset_peak
from project import Project

from kd.build.trainer import build_optimizer
from kd.config.compose import plain
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.two_views import TwoViewTeacher
from kd.training.acquired import AcquiredTeacher
from kd.training.student import assemble
from kd.types import Batch, Outputs
from kd.validation.check import check_config
from kd.validation.views import views_wanted

# An FSP matrix has one entry per pair of channels, so nets of different widths need projections.
NEEDS = {"fsp": ["method.variant=project"], "datafree": ["method.initial=1"]}
# Methods with stages, which train all terms together with method.joint=true.
STAGED = ("ab", "fitnet", "fsp", "ft")
# Every tenth step generates images, so that the mean of ten steps counts.
UNEQUAL = ("datafree",)


def main() -> None:
    parser = argparse.ArgumentParser("methods", description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", default="resnet18")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each method")
    parser.add_argument("--methods", nargs="+", default=image_methods())
    options = parser.parse_args()
    check_names(parser, "--methods", options.methods, image_methods())
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        project = Project(
            options.teacher, options.student, (3, 32, 32), 45_000, Path(folder), ["trainer=cpu"]
        )
        reference = step(project, "kd", options.batch_size)
        for name in options.methods:
            reset_peak()
            before = peak_mb()
            one = step(project, name, options.batch_size)
            timed(one), timed(one)  # warm-up: oneDNN's first calls are slow
            pairs = [(timed(one), timed(reference)) for _ in range(options.steps)]
            if name in UNEQUAL:
                pairs = [tuple(map(statistics.mean, zip(*pairs, strict=True)))]
            peaks[name] = peak_mb() - before
            seconds[name] = [mine for mine, _ in pairs]
            ratios[name] = [mine / its for mine, its in pairs]
            print(name, file=sys.stderr)
    print(describe(torch.device("cpu")))
    print("\n| method | CPU ms per step | relative to `kd` | additional MB at the peak |")
    print("|---|--:|--:|--:|")
    for name in sorted(options.methods, key=lambda name: statistics.median(ratios[name])):
        milliseconds = 1000 * statistics.median(seconds[name])
        ratio = statistics.median(ratios[name])
        print(f"| `{name}` | {milliseconds:.0f} | {ratio:.2f} | {peaks[name]:.0f} |")


def timed(call: Callable[[], None]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


class Kept(FrozenTeacher):
    """A teacher whose outputs for the batches of the benchmark exist already, as in a cache."""

    def __init__(self, *net: Any, batches: Sequence[Batch]) -> None:
        super().__init__(*net)
        self.known = [(batch.input, super(Kept, self).outputs(batch)) for batch in batches]

    def outputs(self, batch: Batch) -> Outputs:
        """Return the outputs at hand; those of other images, which are generated, are computed."""
        found = (outputs for images, outputs in self.known if images is batch.input)
        return next(found, None) or super().outputs(batch)


def step(project: Project, method: str, size: int) -> Callable[[], None]:
    """Return a training step of the method on a fixed batch with fixed teacher outputs."""
    joint = ["method.joint=true"] if method in STAGED else []
    cfg = project.compose(method, *NEEDS.get(method, []), *joint)
    checked = check_config(cfg)
    two = views_wanted(cfg, checked.method.objectives)
    first, second = shown(project, size), shown(project, size)
    batches = [first, second] if two else [first]
    names = plain(cfg.teacher.taps), checked.method.teacher_taps
    live = Kept(project.net("teacher"), *names, batches=batches)
    teacher = TwoViewTeacher(live, live) if two else live
    known = AcquiredTeacher(teacher, None, {}, "given", "", None, 0.0)
    distiller, _ = assemble(checked, project.data, known)
    # In the middle of training, where no term has the weight 0 of a warm-up
    distiller.__class__ = type("Midway", (type(distiller),), {"progress": 0.5})
    optimizer = build_optimizer(cfg.optimizer, distiller.train().parameter_groups())
    batch = first._replace(second=second) if two else first

    def run() -> None:
        optimizer.zero_grad()
        distiller.training_step(batch, 0)["loss"].backward()
        optimizer.step()

    return run


def shown(project: Project, size: int) -> Batch:
    """Return a batch of random images."""
    index = torch.arange(size)
    batch: Batch = project.data.train_dataloader().show(index, torch.zeros_like(index))
    return batch._replace(input=torch.randn(size, 3, 32, 32))


if __name__ == "__main__":
    main()
