"""The examples of library use run, in a process of their own as a user starts them."""

import os
import subprocess
import sys

import pytest
from commands import ROOT

WITHOUT_DATA = {name: value for name, value in os.environ.items() if name != "KD_DATA_DIR"}


def printed(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, f"scripts/examples/{script}", *arguments],
        cwd=ROOT,
        env=WITHOUT_DATA | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_own_loop_prints_three_accuracies():
    lines = printed("own_loop.py", "--epochs", "1").splitlines()
    assert lines[0] == "data: digits, 1200 training images, 1 epochs"
    assert [line.split()[0] for line in lines[1:]] == ["teacher", "student", "distilled"]
    assert all(0 < float(line.split()[-1]) <= 1 for line in lines[1:])


@pytest.mark.slow
def test_own_loop_distils_a_better_student():
    lines = printed("own_loop.py").splitlines()
    teacher, student, distilled = (float(line.split()[-1]) for line in lines[1:])
    assert teacher > distilled > student


@pytest.mark.slow
def test_own_nets_prints_teacher_and_student():
    lines = printed("own_nets.py", "--epochs", "1").splitlines()
    teacher, student = (float(part.split()[1]) for part in lines[-3].split(", "))
    assert 0 < student <= 1
    assert 0 < teacher <= 1
    assert lines[-2] == "9.0 times fewer parameters"


@pytest.mark.slow
@pytest.mark.skipif(
    "KD_DATA_DIR" not in os.environ, reason="KD_DATA_DIR names no folder with MNIST"
)
def test_own_nets_learn_mnist():
    lines = printed("own_nets.py", KD_DATA_DIR=os.environ["KD_DATA_DIR"]).splitlines()
    teacher, student = (float(part.split()[1]) for part in lines[-3].split(", "))
    assert teacher > 0.9
    assert student > 0.7
