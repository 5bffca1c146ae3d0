"""Committed pages of results: their tables are those of the committed result.json files."""

import json
import subprocess
import sys

import pytest
from commands import ROOT
from comparison import spread

REFERENCE = ROOT / "outputs" / "reference"


@pytest.mark.parametrize("name", ["text", "detection"])
def test_the_tables_are_those_of_the_results(name, tmp_path):
    # The folder of the runs is empty, so that the committed results alone count.
    command = [sys.executable, f"scripts/{name}_comparison.py", str(tmp_path), "--table"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = (REFERENCE / f"{name}.md").read_text()
    tables = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(tables) > 8
    assert [line for line in page.splitlines() if line.startswith("|")] == tables


@pytest.mark.parametrize(
    "page", sorted((REFERENCE / "documents").glob("*.md")), ids=lambda p: p.stem
)
def test_the_tables_of_a_reproduction_are_those_of_the_results(page, tmp_path):
    command = [sys.executable, "scripts/reproduce.py", page.stem, str(tmp_path), "--table"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    stated = page.read_text()
    tables = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(tables) > 4
    assert [line for line in stated.splitlines() if line.startswith("|")] == tables
    assert printed.strip().splitlines()[-1] in stated  # machine time


@pytest.mark.parametrize("name", ["digits", "cifar10", "vit_student", "vit_teacher"])
def test_the_table_of_all_methods_is_that_of_the_runs(name, tmp_path):
    kept = REFERENCE / "methods"
    command = [sys.executable, "scripts/compare_methods.py", "digits", str(tmp_path), "--table"]
    command += ["--keep", str(kept / f"{name}.json")]
    if name == "digits":  # the nets of the benchmark
        command += ["--cost", str(kept / "cost.json")]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.count("\n") > 8
    assert printed in (REFERENCE / "methods.md").read_text()


def test_the_accuracy_without_any_image_is_that_of_the_runs():
    runs = json.loads((REFERENCE / "methods" / "mnist_datafree.json").read_text())["datafree"]
    assert [run["seed"] for run in runs] == [0, 1, 2]
    page = (REFERENCE / "methods.md").read_text()
    for figure in ("test/acc", "test/acc_last"):
        assert spread([100 * run[figure] for run in runs]) in page


def test_the_summary_is_that_of_the_results():
    command = [sys.executable, "scripts/summary.py"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.count("\n") > 10
    assert printed in (REFERENCE / "README.md").read_text()


@pytest.mark.parametrize(("name", "runs"), [("text", 105), ("detection", 15)])
def test_every_run_of_a_page_is_committed(name, runs):
    assert len(list((REFERENCE / name).glob("*_s*/result.json"))) == runs
