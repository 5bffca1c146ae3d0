"""The benchmarks run, on the smallest of inputs; minutes, so slow."""

import subprocess
import sys

import pytest
from commands import ROOT

FAST = ["trainer.max_epochs=4", "teacher.training.trainer.max_epochs=1"]
ARGUMENTS = {
    "": [
        "--pairs",
        "resnet18-resnet8",
        "--images",
        "256",
        "--epochs",
        "1",
        "--repeats",
        "1",
        "--skip",
        "per sample",
    ],
    "early_stop.py": FAST,
    "growth.py": ["{folder}/growth.png", "--images", "256", "--sweep", "1"],
    "methods.py": ["--batch-size", "8", "--steps", "1", "--teacher", "resnet20"],
    "pipeline.py": ["--images", "256", "--repeats", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("script", ARGUMENTS)
def test_a_benchmark_prints_its_table(script, tmp_path):
    arguments = [argument.format(folder=tmp_path) for argument in ARGUMENTS[script]]
    command = [sys.executable, f"scripts/benchmark/{script}", *arguments]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert completed.returncode == 0, completed.stderr
    assert "torch" in completed.stdout  # the description of the machine
