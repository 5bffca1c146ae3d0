"""Comparison of ways to compress one student, and of int8 students by the method that taught them.

python scripts/compression.py cifar10_subset outputs/compression --images FOLDER teacher=resnet20 …
python scripts/compression.py digits outputs/compression --table

1. students: each method of `--methods` teaches a student for each seed.
2. ways: the student of `kd` trains on in each of the ways of `WAYS`, as by `kd.compress`.
3. measure: every student is exported to ONNX in fp32 and in int8, as by `kd.export`, and both files
   are evaluated on the test set; at last the latencies of the ways are measured in turns.

Each finished run and each measurement is kept: after an interruption the same command goes on.
`--share 0/2` and `--share 1/2` in two shells divide the runs.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import command_line
import compare_methods
import comparison as compare
import compression_tables as tables
from comparison import Result
from compression_tables import RESULTS

from kd.deploy.compression.settings import Compression

METHODS = ("ce", "kd", "dkd", "dist", "at", "fitnet", "crd", "rkd", "srd")
TEACHING = "kd"  # the method of the student that is compressed
PARTS = ("students", "ways", "measure")


class Way(NamedTuple):
    """How a trained student trains on.

    Attributes:
        method: that teaches it; `ce`: the labels alone.
        compression: None: the student stays as large and as exact as it is.
    """

    method: str
    compression: Compression | None


_QAT = Compression(prune="none", quantise="int8")
_PRUNED = Compression(prune="channels", ratio=0.5, quantise="none")
WAYS = {
    "plain": Way(TEACHING, None),
    "qat_ce": Way("ce", _QAT),
    "qat_kd": Way(TEACHING, _QAT),
    "pruned_ce": Way("ce", _PRUNED),
    "pruned_kd": Way(TEACHING, _PRUNED),
    "pruned_qat_kd": Way(TEACHING, Compression(prune="channels", ratio=0.5, quantise="int8")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    compare_methods.add_data_options(parser)
    command_line.add_options(parser)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--epochs", type=int, default=15, help="of a student's training")
    parser.add_argument("--more-epochs", type=int, help="of each way; default: half of --epochs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the measurements")
    options = command_line.parsed(parser)
    command_line.check_names(parser, "--methods", options.methods, command_line.image_methods())
    if not options.table:
        if "students" in options.parts:
            train_students(options)
        if "ways" in options.parts:
            train_on(options)
        if "measure" in options.parts:
            measure(options)
    print(tables.rebuilt(options.results))


def train_students(options: argparse.Namespace) -> None:
    """Train a student for each method and seed."""
    shared = [*compare_methods.data(options), *options.overrides]
    shared += [f"paths.output={options.folder}", f"trainer.max_epochs={options.epochs}"]
    runs = argparse.Namespace(**vars(options) | {"folder": runs_folder(options)})
    for method, seed, folder in compare.jobs(runs, options.methods):
        own = [f"method={method}", f"seed={seed}"]
        compare.attempt(method, seed, folder, partial(compare.train, folder, [*own, *shared]))


def train_on(options: argparse.Namespace) -> None:
    """Train the finished students of `kd` on, in each way, for the same number of epochs."""
    runs = argparse.Namespace(**vars(options) | {"folder": ways_folder(options)})
    for name, seed, folder in compare.jobs(runs, options.ways):
        base = runs_folder(options) / f"{TEACHING}_s{seed}"
        if compare.read(base).get("status") != "completed":
            print(f"{name} seed {seed}: {base} is not finished")
            continue
        task = partial(compress, base, folder, WAYS[name], options.more_epochs)
        compare.attempt(name, seed, folder, task)


def compress(base: Path, folder: Path, way: Way, epochs: int | None) -> Result:
    """Train the student of a finished run on, in one way; the new run is one like any other."""
    from kd.deploy.compression import plan
    from kd.deploy.compression.compress import compress
    from kd.deploy.finished_run import FinishedRun

    run, method = FinishedRun(base), plan.method_config(way.method)
    cfg = plan.plan_config(run, way.compression, folder, method, epochs)
    plan.check_plan(run, cfg)
    compress(run, way.compression, cfg)
    return compare.read(folder)


def measure(options: argparse.Namespace) -> None:
    """Measure the runs that are finished and have no measurement yet."""
    import compression_measure

    runs, ways, results = runs_folder(options), ways_folder(options), options.results
    compression_measure.measure_runs(runs, results / "methods")
    compression_measure.measure_runs(ways, results / "ways")
    compression_measure.measure_latencies(ways, results / tables.LATENCIES)


def runs_folder(options: argparse.Namespace) -> Path:
    """Return the parent of the students' runs."""
    return Path(options.folder) / "runs"


def ways_folder(options: argparse.Namespace) -> Path:
    """Return the parent of the runs that compress."""
    return runs_folder(options) / "ways"


if __name__ == "__main__":
    main()
