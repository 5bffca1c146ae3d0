"""Benchmark of a training step of every method relative to `kd`, with cached teacher outputs.

python scripts/benchmark/methods.py --batch-size 256

One thread; times are CPU times, which other processes do not lengthen. A step of the method and a
step of `kd` alternate.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # comparison
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from comparison import image_methods
from machine import describe, peak_mb, reset_peak
from project import Project

from kd.build.method import build_method
from kd.build.trainer import build_optimizer
from kd.config.compose import plain
from kd.objectives.setting import Setting
from kd.taps import Taps

# An FSP matrix has one entry per pair of channels, so nets of different widths need projections.
NEEDS = {"fsp": ["method.variant=project"]}
# Methods with stages, which train all terms together with method.joint=true.
STAGED = ("ab", "fitnet", "fsp", "ft")

# Their steps have other images than those of the batch: two views of each, or generated ones.
OTHER_STEPS = ("crld", "mlkd_views", "datafree")


def main() -> None:
    parser = argparse.ArgumentParser("methods", description=__doc__.split("\n")[0])
    parser.add_argument("--teacher", default="resnet18")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each method")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in image_methods() if name not in OTHER_STEPS]
    seconds: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        project = Project(
            options.teacher, options.student, (3, 32, 32), 45_000, Path(folder), ["trainer=cpu"]
        )
        reference = step(project, "kd", options.batch_size)
        for name in names:
            reset_peak()
            before = peak_mb()
            one = step(project, name, options.batch_size)
            timed(one), timed(one)  # warm-up: oneDNN's first calls are slow
            pairs = [(timed(one), timed(reference)) for _ in range(options.steps)]
            peaks[name] = peak_mb() - before
            seconds[name] = [mine for mine, _ in pairs]
            ratios[name] = [mine / its for mine, its in pairs]
            print(name, file=sys.stderr)
    print(describe(torch.device("cpu")))
    print("\n| method | CPU ms per step | relative to `kd` | additional MB at the peak |")
    print("|---|--:|--:|--:|")
    for name in sorted(names, key=lambda name: statistics.median(ratios[name])):
        milliseconds = 1000 * statistics.median(seconds[name])
        ratio = statistics.median(ratios[name])
        print(f"| `{name}` | {milliseconds:.0f} | {ratio:.2f} | {peaks[name]:.0f} |")


def timed(call: Callable[[], None]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def step(project: Project, method: str, size: int) -> Callable[[], None]:
    """Return a training step of the method on a fixed batch with fixed teacher outputs."""
    joint = ["method.joint=true"] if method in STAGED else []
    cfg = project.compose(method, *NEEDS.get(method, []), *joint)
    objectives, plan = build_method(cfg)
    ours = [tap for objective in objectives.values() for tap in objective.student_taps]
    theirs = [tap for objective in objectives.values() for tap in objective.teacher_taps]
    student = Taps(project.net("student"), plain(cfg.student.taps), ours)
    teacher = Taps(project.net("teacher").eval(), plain(cfg.teacher.taps), theirs)
    index = torch.arange(size)
    shown = project.data.train_dataloader().show(index, torch.zeros_like(index))
    batch = shown._replace(input=torch.randn(size, 3, 32, 32))
    with torch.no_grad():
        taught = teacher.outputs(batch.input)
    setting = Setting(
        10,
        project.data.arrays.train_targets,
        student.head,
        teacher.head,
        student_net=student.net,
        teacher_net=teacher.net,
        run_student=student.outputs,
        run_teacher=torch.no_grad()(teacher.outputs),
    )
    probes = [taps.probe(batch.input[:2]) for taps in (student, teacher)]
    for objective in objectives.values():
        objective.build(probes[0], probes[1], setting)
    modules = torch.nn.ModuleList([student.net.train(), *objectives.values()])
    optimizer = build_optimizer(cfg.optimizer, [p for p in modules.parameters() if p.requires_grad])
    weights = plan.weights(0.5)

    def run() -> None:
        optimizer.zero_grad()
        outputs = student.outputs(batch.input)
        terms = [w * objectives[name](outputs, taught, batch) for name, w in weights.items()]
        torch.stack(terms).sum().backward()
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
