"""Comparison of ways to compress one student, and of int8 students by the method that taught them.

python scripts/compression.py cifar10_subset outputs/compression --images FOLDER teacher=resnet20 …
python scripts/compression.py digits outputs/compression --table

1. Students: each method of `--methods` teaches a student for each seed.
2. Ways: the student of `kd` trains on for `--more-epochs` epochs, in each of the ways of `WAYS`.
The tables are those of the measurements in `--results`.

Each finished run is kept: after an interruption the same command goes on.
`--share 0/2` and `--share 1/2` in two shells divide the runs.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import compare_methods
import comparison as compare
import compression_tables as tables
from comparison import Result
from compression_tables import RESULTS

METHODS = ("ce", "kd", "dkd", "dist", "at", "fitnet", "crd", "rkd", "srd")
TEACHING = "kd"  # the method of the student that is compressed


class Way(NamedTuple):
    """How a trained student trains on.

    Attributes:
        method: that teaches it; `ce`: the labels alone.
        ratio: share of the channels that are removed first.
        quantised: weights and inputs of its layers are rounded as in int8 (QAT).
    """

    method: str
    ratio: float = 0.0
    quantised: bool = False


WAYS = {
    "plain": Way(TEACHING),
    "qat_ce": Way("ce", quantised=True),
    "qat_kd": Way(TEACHING, quantised=True),
    "pruned_ce": Way("ce", ratio=0.5),
    "pruned_kd": Way(TEACHING, ratio=0.5),
    "pruned_qat_kd": Way(TEACHING, ratio=0.5, quantised=True),
}
LR_FACTOR = 0.1  # of the learning rate while a trained student trains on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    compare_methods.add_data_options(parser)
    compare.add_options(parser)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--epochs", type=int, default=15, help="of a student's training")
    parser.add_argument("--more-epochs", type=int, default=10, help="of each way")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the measurements")
    options = parser.parse_args()
    if not options.table:
        shared = [*compare_methods.data(options), *options.overrides]
        shared.append(f"paths.output={options.folder}")
        train_students(options, shared)
        train_on(options, shared)
    print(tables.rebuilt(options.results))


def train_students(options: argparse.Namespace, shared: list[str]) -> None:
    """Train a student for each method and seed."""
    runs = argparse.Namespace(**vars(options) | {"folder": runs_folder(options)})
    for method, seed, folder in compare.jobs(runs, options.methods):
        own = [f"method={method}", f"seed={seed}", f"trainer.max_epochs={options.epochs}"]
        compare.attempt(method, seed, folder, partial(compare.train, folder, [*own, *shared]))


def train_on(options: argparse.Namespace, shared: list[str]) -> None:
    """Train the students of `kd` on, in each way."""
    runs = argparse.Namespace(**vars(options) | {"folder": ways_folder(options)})
    for name, seed, folder in compare.jobs(runs, options.ways):
        base = runs_folder(options) / f"{TEACHING}_s{seed}"
        overrides = [*shared, f"seed={seed}", f"trainer.max_epochs={options.more_epochs}"]
        compare.attempt(name, seed, folder, partial(compress, base, folder, WAYS[name], overrides))


def compress(base: Path, folder: Path, way: Way, overrides: list[str]) -> Result:
    """Train the student of a finished run on, in one way; the new run is one like any other."""
    from kd.build.given import GivenParts
    from kd.deploy.compression.channels import remove_channels
    from kd.deploy.compression.fake_quantise import fake_quantise
    from kd.deploy.compression.quantisation_schedule import QuantisationSchedule
    from kd.deploy.finished_run import FinishedRun

    run = FinishedRun(base)
    net = run.student.net
    callbacks: list[QuantisationSchedule] = []
    if way.ratio:
        net = remove_channels(net, run.data.input_shape, way.ratio).net
    if way.quantised:
        net = fake_quantise(net)
        callbacks.append(QuantisationSchedule(net))
    own = [f"method={way.method}", f"optimizer.lr={run.cfg.optimizer.lr * LR_FACTOR}"]
    return compare.train(folder, [*overrides, *own], GivenParts(student=net), callbacks)


def runs_folder(options: argparse.Namespace) -> Path:
    """Return the parent of the students' runs."""
    return Path(options.folder) / "runs"


def ways_folder(options: argparse.Namespace) -> Path:
    """Return the parent of the runs that compress."""
    return runs_folder(options) / "ways"


if __name__ == "__main__":
    main()
