"""The comparisons' tables: differences over the same seeds, what failed, and whole chains."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import command_line
import compare_methods
import comparison
import pytest
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


def test_one_file_keeps_the_runs_of_several_folders(tmp_path):
    file = tmp_path / "kept" / "digits.json"
    for seed, folder in ((0, "a"), (1, "b")):
        write(tmp_path / folder / f"ce_s{seed}", {"seed": seed, "test/acc": 0.9, "notes": "x"})
        comparison.collect_in(file, tmp_path / folder)
    write(tmp_path / "c" / "ce_s1", {"seed": 1, "test/acc": 0.8})
    runs, failed = comparison.collect_in(file, tmp_path / "c")
    assert ([(r["seed"], r["test/acc"]) for r in runs["ce"]], failed) == ([(0, 0.9), (1, 0.8)], [])
    assert "notes" not in file.read_text()
    before = file.read_bytes()
    keep = ["digits", str(tmp_path / "none"), "--keep", str(file)]
    assert table("compare_methods", *keep)[-1][:3] == ["`ce`", "2", "85.00 ± 7.07"]
    assert file.read_bytes() == before


def test_the_cost_of_a_step_stands_beside_the_accuracy(tmp_path):
    for row, accuracy in (("ce", 0.9), ("crd", 0.8), ("crd_untrained", 0.7)):
        write(tmp_path / "runs" / f"{row}_s0", {"seed": 0, "test/acc": accuracy})
    costs = {"kd": {"ratio": 1.02, "mb": 200.0}, "crd": {"ratio": 1.9, "mb": 300.0}}
    file = tmp_path / "cost.json"
    file.write_text(json.dumps({"machine": "x", "methods": costs}))
    shown = table("compare_methods", "digits", str(tmp_path / "runs"), "--cost", str(file))
    assert shown[0][-2:] == ["step time / `kd`", "memory / `kd`"]
    assert [row[-2:] for row in shown[2:]] == [["–", "–"], ["1.90", "1.50"], ["1.90", "1.50"]]


@pytest.mark.parametrize(
    ("words", "seeds", "overrides"),
    [
        (["digits", "runs", "a.b=1", "--seeds", "0", "1"], [0, 1], ["a.b=1"]),
        (
            ["digits", "runs", "--seeds", "0", "1", "+a.b=1", "c@d=[1,2]"],
            [0, 1],
            ["+a.b=1", "c@d=[1,2]"],
        ),
        (["digits", "runs", "~a.b", "--seeds", "2", "c="], [2], ["~a.b", "c="]),
    ],
)
def test_overrides_may_stand_behind_a_list(words, seeds, overrides, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script", *words])
    parser = argparse.ArgumentParser()
    compare_methods.add_data_options(parser)
    command_line.add_options(parser)
    options = command_line.parsed(parser)
    assert (options.seeds, options.overrides) == (seeds, overrides)


def test_arms():
    assert {"ce", "kd", "kd_untrained", "fitnet_untrained"} <= {*compare_methods.rows()}
    assert compare_methods.arm("kd") == ["method=kd"]
    untrained = ["method=fsp", "method.variant=project", "control=untrained"]
    assert compare_methods.arm("fsp_untrained") == untrained


def test_images_are_needed_for_the_subset_of_cifar10(tmp_path):
    script = str(ROOT / "scripts" / "compare_methods.py")
    (tmp_path / "photos" / "train").mkdir(parents=True)
    for words, message in (
        ([], "cifar10_subset needs --images FOLDER"),
        (["--images", "photos"], "--images photos: has no folder test/<class>/*"),
    ):
        command = [sys.executable, script, "cifar10_subset", "runs", *words]
        completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert (completed.returncode, message in completed.stderr) == (2, True), completed.stderr
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "kdd"], "--methods kdd: there is none; did you mean 'kd'?"),
        (["--methods", "ce", "kdd_untrained"], "--methods kdd: there is none; did you mean"),
        (["--keep", "a.json"], "--keep belongs to --table"),
        (["--table", "--keep", "notes.json"], "notes.json: is no file of runs"),
        (["--table"], "runs: holds no runs; leave --table out to train them"),
        (["--per-class", "0"], "argument --per-class: 0: must be a whole number ≥ 1"),
        (["--seeds", "0", "-1"], "argument --seeds: -1: must be a whole number ≥ 0"),
        (["--cost", "a.json"], "--cost belongs to --table"),
        (["--table", "--cost", "notes.json"], "notes.json: is no file that benchmark/methods.py"),
        (["--table", "--cost", "none.json"], "none.json: is no file that benchmark/methods.py"),
    ],
)
def test_wrong_words_end_with_one_message_and_no_folder(words, message, tmp_path):
    (tmp_path / "notes.json").write_text('{"a": 1}')
    script = str(ROOT / "scripts" / "compare_methods.py")
    command = [sys.executable, script, "digits", "runs", *words]
    completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert completed.returncode != 0
    assert message in completed.stderr
    assert "Traceback" not in completed.stderr
    assert not (tmp_path / "runs").exists()
