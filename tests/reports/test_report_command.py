"""The command `kd.report`: its output, messages for mistakes, and import time."""

import re
import subprocess
import sys

import pytest
from commands import ROOT, Command
from run_folders import write_run, write_sweep

from kd.config.overrides import expand_shorthand


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    return Command("kd.report", *arguments).ended()


def test_the_table_is_printed_and_the_page_names_the_command(tmp_path):
    write_sweep(tmp_path, kd=[0.95, 0.96, 0.97], ce=[0.90, 0.905, 0.92])
    for _ in range(2):  # the second replaces the first
        arguments = f"sweep={tmp_path}", "baseline=method=ce", "figures=false", "detect=0.5"
        completed = report(*arguments)
        assert completed.returncode == 0, completed.stderr
        assert "better" in completed.stdout
        assert "tell 0.5" in " ".join(completed.stdout.split())
    page = (tmp_path / "report" / "report.html").read_text()
    assert (
        f"python -m kd.report sweep={tmp_path} baseline=method=ce figures=false detect=0.5" in page
    )


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("figures=false", r"error: no runs are given: add sweep=FOLDER, or folders="),
        ("sweep={folder}/swep", "swep does not exist; .* did you mean 'sweep'?"),
        ("detect=0", "error: detect=0: must be a difference in points, above 0"),
        ("folders=[{folder}/sweep]", "error: no run below .*/sweep"),
        ("folders={folder}/sweep", r"error: folders=.*/sweep: must be a list, as \[A,B\]"),
        ("sweep={folder}/a.txt", "error: .*/a.txt is a file, not a folder; name the folder"),
        (
            "sweep={folder}/unfinished",
            "error: no finished run below .*/unfinished: 1 failed, 1 unfinished; the first, .*: x",
        ),
    ],
)
def test_mistakes_are_reported_without_a_traceback(argument, message, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "a.txt").write_text("")
    write_run(tmp_path / "unfinished" / "b")
    write_run(tmp_path / "unfinished" / "a", status="failed", error="x")
    completed = report(argument.format(folder=tmp_path))
    assert completed.returncode == 1
    assert re.search(message, completed.stderr), completed.stderr
    assert "Traceback" not in completed.stderr


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95])
    completed = report(f"sweep={tmp_path / 'runs'}", "figures=false", "output=/proc/x")
    assert completed.returncode == 1
    assert re.fullmatch(
        "error: output=/proc/x: the report cannot be written there: .*; choose another folder "
        "with output=FOLDER",
        completed.stderr.strip(),
    )


def test_a_baseline_is_quoted_for_hydra():
    quoted = "baseline='method=kd,temperature=4'"
    assert expand_shorthand("baseline=method=kd,temperature=4") == quoted
    assert expand_shorthand("baseline=ce") == "baseline=ce"
    assert expand_shorthand("sweep=x", {"sweep": "folder"}) == "folder=x"


def test_the_command_line_loads_nothing_heavy():
    heavy = "('torch', 'lightning', 'matplotlib', 'scipy', 'numpy', 'jinja2')"
    code = f"import sys, kd.report; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    completed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert completed.stdout.strip() == "[]"
