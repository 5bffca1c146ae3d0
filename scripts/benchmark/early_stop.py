"""Benchmark of a training step before and after early-stopped distillation ends its soft term.

python scripts/benchmark/early_stop.py

Runs on scikit-learn's digits with one thread, with a live teacher and with cached teacher outputs.
Times are CPU times, which other processes do not lengthen.

Early-stopped knowledge distillation: Cho & Hariharan 2019, https://arxiv.org/abs/1910.01348.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from lightning import Callback

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works uninstalled

from machine import describe

from kd.config.compose import CONF_DIR, register_models
from kd.training.run import run


class TimeSteps(Callback):
    """Record the terms and the CPU seconds of every step, without the work between epochs."""

    def __init__(self) -> None:
        self.steps: list[tuple[frozenset[str], float]] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.started = time.process_time()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.steps.append((frozenset(outputs["terms"]), time.process_time() - self.started))


def main() -> None:
    parser = argparse.ArgumentParser("early_stop", description=__doc__.split("\n")[0])
    parser.add_argument("overrides", nargs="*", help="of all runs, key=value")
    options = parser.parse_args()
    torch.set_num_threads(1)
    register_models(CONF_DIR)
    print(describe(torch.device("cpu")))
    print("\n| teacher outputs | terms | steps | median CPU ms per step |\n|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for mode, teacher in (("off", "live"), ("on", "cached")):
            for terms, seconds in steps(Path(folder), mode, options.overrides).items():
                named = " + ".join(f"`{name}`" for name in sorted(terms))
                median = 1000 * statistics.median(seconds)
                print(f"| {teacher} | {named} | {len(seconds)} | {median:.2f} |")


def steps(folder: Path, mode: str, more: list[str]) -> dict[frozenset[str], list[float]]:
    """Return the seconds of every step by its terms, without the first step of each epoch."""
    given = ["experiment=eskd", "trainer=cpu", "logger=none", "trainer.enable_progress_bar=false"]
    given += [f"teacher.cache.mode={mode}", f"paths.output={folder}", f"paths.run={folder / mode}"]
    watch = TimeSteps()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        result = run(compose("train", overrides=[*given, *more]), folder / mode, callbacks=[watch])
    an_epoch = len(watch.steps) // int(result["epochs"])
    found: dict[frozenset[str], list[float]] = {}
    for number, (terms, seconds) in enumerate(watch.steps):
        if number % an_epoch:  # the first step waits for the epoch's teacher outputs
            found.setdefault(terms, []).append(seconds)
    return found


if __name__ == "__main__":
    main()
