"""Benchmark of a training step of every method relative to `kd`, with cached teacher outputs.

python scripts/benchmark/methods.py --batch-size 256 --keep FILE

Each method has a process of its own and one thread. Times are CPU times, which other processes do
not lengthen; a step of the method and a step of `kd` alternate. Memory is what the first two steps
add to the resident memory of the built method. Methods that compare two views have two images of
each sample in their step, and the rounds of `datafree` are part of its steps: its figure is a mean
over ten steps. With `--keep` the same command resumes after an interruption.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # comparison
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from command_line import check_names, image_methods, positive
from comparison import markdown
from machine import describe, peak_mb, reset_peak
from project import Project

from kd.build.trainer import build_optimizer
from kd.config.compose import plain
from kd.io.checksums import write_json
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
COLUMNS = ("method", "CPU ms per step", "relative to `kd`", "MB in a step", "relative to `kd`")


def main() -> None:
    parser = argparse.ArgumentParser("methods", description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", default="resnet18")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch-size", type=positive, default=256)
    parser.add_argument("--steps", type=positive, default=10, help="timed steps of each method")
    parser.add_argument("--methods", nargs="+", default=image_methods())
    parser.add_argument("--keep", type=Path, help="JSON file of the figures; finished ones stay")
    options = parser.parse_args()
    check_names(parser, "--methods", options.methods, image_methods())
    torch.set_num_threads(1)
    kept = opened(parser, options)
    costs = kept["methods"]
    measured = partial(cost, options.teacher, options.student, options.batch_size, options.steps)
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for name in dict.fromkeys(["kd", *options.methods]):
            if name not in costs:
                costs[name] = processes.submit(measured, name).result()
                if options.keep is not None:
                    options.keep.parent.mkdir(parents=True, exist_ok=True)
                    write_json(options.keep, kept)
                print(name, file=sys.stderr)
    print(
        f"{kept['machine']}; {options.teacher} to {options.student}, batch {options.batch_size}\n"
    )
    print(table(costs))


def opened(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the file to keep, or none yet, with what they belong to.

    Raises:
        SystemExit: the file holds something else, or figures of another machine or other settings.
    """
    about = {
        "machine": describe(torch.device("cpu")),
        **{key: getattr(options, key) for key in ("teacher", "student", "batch_size", "steps")},
    }
    if options.keep is None or not options.keep.exists():
        return {**about, "methods": {}}
    try:
        kept: dict[str, Any] = json.loads(options.keep.read_text())
        other = [key for key, value in about.items() if kept[key] != value]
    except (ValueError, LookupError, TypeError):
        parser.error(f"{options.keep}: is no file of this benchmark; choose another one")
    if other:
        parser.error(
            f"{options.keep}: has {other[0]} {kept[other[0]]}, and this is {about[other[0]]}; "
            "choose another file"
        )
    return kept


def cost(teacher: str, student: str, size: int, steps: int, method: str) -> dict[str, float]:
    """Measure steps of a method in this process, which measures nothing else.

    Returns:
        CPU `ms` per step, the median `ratio` to a step of `kd`, and `mb` in the first steps.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shape = (3, 32, 32)
        project = Project(teacher, student, shape, 45_000, Path(folder), ["trainer=cpu"])
        one = step(project, method, size)
        reset_peak()
        before = peak_mb()
        timed(one), timed(one)  # oneDNN's first calls are slow as well
        memory = peak_mb() - before
        reference = step(project, "kd", size)
        timed(reference), timed(reference)
        pairs = [(timed(one), timed(reference)) for _ in range(steps)]
    if method in UNEQUAL:
        pairs = [(statistics.mean(mine for mine, _ in pairs), statistics.mean(k for _, k in pairs))]
    return {
        "ms": round(1000 * statistics.median(mine for mine, _ in pairs), 1),
        "ratio": round(statistics.median(mine / its for mine, its in pairs), 3),
        "mb": round(memory, 1),
    }


def table(costs: dict[str, dict[str, float]]) -> str:
    """Format the methods by their time, with memory relative to that of `kd`."""
    rows = [
        [
            f"`{name}`",
            f"{figures['ms']:.0f}",
            f"{figures['ratio']:.2f}",
            f"{figures['mb']:.0f}",
            f"{figures['mb'] / costs['kd']['mb']:.2f}",
        ]
        for name, figures in sorted(costs.items(), key=lambda item: item[1]["ratio"])
    ]
    return markdown(COLUMNS, rows, [])


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
