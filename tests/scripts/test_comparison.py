"""The comparisons' tables: differences over the same seeds, what failed, and whole chains."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import ROOT

COSTS = {"epochs": 2, "fit_seconds": 1.25, "teacher_forwards": 1500, "student/params": 77754}


def write(folder: Path, content: dict[str, Any], name: str = "result.json") -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(COSTS | {"status": "completed"} | content))


def table(script: str, *arguments: str) -> list[list[str]]:
    command = [sys.executable, f"scripts/{script}.py", *arguments, "--table"]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = completed.stdout.strip().split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line]


def test_differences_are_over_the_same_seeds(tmp_path):
    for seed, accuracy in enumerate((0.90, 0.92, 0.94)):
        write(tmp_path / f"ce_s{seed}", {"seed": seed, "test/acc": accuracy})
    write(tmp_path / "kd_s0", {"seed": 0, "test/acc": 0.91})
    write(tmp_path / "kd_s2", {"seed": 2, "test/acc": 0.99})
    write(tmp_path / "dml_s0", {"status": "failed", "error": "UserError: no\nmore"})
    # The summary of a chain counts, and not its stages.
    write(tmp_path / "takd_s1", {"seed": 1, "test/acc": 0.9}, "chain.json")
    write(tmp_path / "takd_s1" / "1_resnet14", {"seed": 2, "test/acc": 0.1})
    shown = {row[0]: row[1:] for row in table("compare_procedures", str(tmp_path))}
    # 91 − 90 and 99 − 94: mean 3, deviation √8
    assert shown["`kd`"] == ["2", "95.00 ± 5.66", "+3.00 ± 2.83", "–", "2", "1.2", "1 500"]
    assert shown["`ce`"][:4] == ["3", "92.00 ± 2.00", "–", "-3.00 ± 2.83"]
    assert shown["`takd`"][:4] == ["1", "90.00", "-2.00", "–"]
    assert "failed: dml_s0: UserError: no" in shown

    shown = {row[0]: row[1:] for row in table("compare_methods", "digits", str(tmp_path))}
    assert shown["`takd`"] == ["1", "90.00", "-2.00 (below)", "77 754"]
