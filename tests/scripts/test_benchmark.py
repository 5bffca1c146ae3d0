"""The benchmarks run, on the smallest of inputs; minutes, so slow."""

import json
import subprocess
import sys

import pytest
from commands import ROOT
from finished_runs import finished_run

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
    "methods.py": [
        *("--batch-size", "8", "--steps", "1", "--teacher", "resnet20"),
        *("--methods", "crd", "crld", "datafree", "fitnet", "semckd"),
    ],
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


EVERY_STEP = """
import sys, tempfile
from pathlib import Path
sys.path[:0] = ["scripts", "scripts/benchmark"]
import methods
with tempfile.TemporaryDirectory() as folder:
    nets = "resnet20", "resnet8", (3, 32, 32), 256
    project = methods.Project(*nets, Path(folder), ["trainer=cpu"])
    for name in methods.image_methods():
        print("step", name, methods.timed(methods.step(project, name, 8)))
"""


@pytest.mark.slow
def test_every_method_has_a_step_in_the_benchmark():
    """In one process, although `methods.py` gives each a process of its own."""
    command = [sys.executable, "-c", EVERY_STEP]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert completed.returncode == 0, completed.stderr
    steps = [line.split() for line in completed.stdout.splitlines() if line.startswith("step ")]
    assert len({name for _, name, _ in steps}) >= 60
    assert all(float(seconds) > 0 for *_, seconds in steps)


@pytest.mark.slow
def test_the_benchmark_of_methods_keeps_its_figures_and_resumes(tmp_path):
    file = tmp_path / "cost.json"
    command = [sys.executable, "scripts/benchmark/methods.py", "--batch-size", "8", "--steps", "1"]
    command += ["--teacher", "resnet20", "--keep", str(file), "--methods"]
    first = subprocess.run([*command, "ce"], cwd=ROOT, capture_output=True, text=True, check=True)
    kept = json.loads(file.read_text())["methods"]
    both = subprocess.run(
        [*command, "ce", "nst"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (first.stderr.split(), both.stderr.split()) == (["kd", "ce"], ["nst"])
    costs = json.loads(file.read_text())["methods"]
    assert {name: costs[name] for name in ("kd", "ce")} == kept
    assert all(cost["ms"] > 0 and cost["mb"] > 0 for cost in costs.values())
    for words, message in (
        (["--batch-size", "9"], "has batch_size 8, and this is 9; choose another file"),
        (["--steps", "0"], "argument --steps: 0: must be a whole number ≥ 1"),
        (["--keep", str(tmp_path / "notes.json")], "notes.json: is no file of this benchmark"),
    ):
        (tmp_path / "notes.json").write_text("[]")
        wrong = [*command, "ce", *words]
        refused = subprocess.run(wrong, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr


@pytest.mark.slow
def test_the_benchmark_of_exported_files_prints_its_table(output, tmp_path):
    options = ["--output", str(tmp_path), "--precisions", "int8", "--repeats", "1"]
    run = finished_run("ce", output)
    command = [sys.executable, "scripts/benchmark/export.py", str(run), *options]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert completed.returncode == 0, completed.stderr
    rows = [line.split("|") for line in completed.stdout.splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows[1:]] == ["student, torch", "ONNX fp32", "ONNX int8"]
    for precision, row in zip(["fp32", "int8"], rows[2:], strict=True):
        assert int(row[5]) == (tmp_path / run.name / f"student-{precision}.onnx").stat().st_size
