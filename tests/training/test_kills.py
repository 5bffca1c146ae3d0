"""Killed runs resume from their last checkpoint and end with the same numbers."""

import csv
import json
import random
import signal
import time
from pathlib import Path

import pytest
from commands import Command
from safetensors.torch import load_file

KILLS = 4  # of each run
RUNS = {
    "kd": ["method=kd"],
    "fitnet": ["method=fitnet", "method.initial=0.4"],
    "crd": ["method=crd"],
    "dml": ["mode=online", "method=kd"],
    "pskd": ["experiment=pskd"],
    "datafree": ["method=datafree", "method.width=4", "method.steps=2", "method.count=32"],
    "sskd": ["method=sskd", "method.initial=0.4"],
    "dot": ["method=kd", "optimizer=dot"],
    "deepkd": ["method=crld", "optimizer=deepkd"],
}
SMALL = ("student=resnet8", "student.net.width=0.5", "trainer=cpu", "logger=csv")
# A checkpoint after nearly every step, so that many kills interrupt a write; epochs for several
# times the seconds that pass before the last kill
OFTEN = ("checkpoint.every_minutes=0.0003", "data.batch_size=32", "trainer.max_epochs=30")


def command(folder: Path, output: Path, options: list[str]) -> list[str]:
    return [
        *("kd.train", *SMALL, *OFTEN, "trainer.enable_progress_bar=false"),
        *(f"paths.output={output}", f"hydra.run.dir={folder}", *options),
        *(("teacher=resnet8",) if not any("mode=" in o or "exp" in o for o in options) else ()),
        "teacher.training.trainer.max_epochs=1",
    ]


def finish(line: list[str]) -> None:
    answer = Command(*line).ended()
    assert answer.returncode == 0, answer.stderr


def kill_when(process: Command, begun: Path, moment: random.Random) -> bool:
    """Kill a process shortly after it has written `begun` again; return whether it was running."""
    before = begun.stat().st_mtime_ns if begun.exists() else 0
    deadline = time.monotonic() + 120
    while process.returncode is None and (not begun.exists() or begun.stat().st_mtime_ns == before):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(moment.uniform(0, 0.7))
    process.send_signal(signal.SIGKILL)
    return process.ended(timeout=60).returncode == -signal.SIGKILL


def curve(folder: Path) -> dict[int, str]:
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/acc"]]
    assert len(rows) == len({row["epoch"] for row in rows})
    return {int(row["epoch"]): row["val/acc"] for row in rows}


def numbers(folder: Path) -> dict:
    result = json.loads((folder / "result.json").read_text())
    assert result["status"] == "completed"
    keys = ("val/acc", "best_epoch", "epochs", "student/params")
    return {k: v for k, v in result.items() if k in keys or "test/" in k}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_ends_with_the_same_numbers(name, output, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(command(whole, output, RUNS[name]))
    moment, killed = random.Random(name), 0
    line = command(broken, output, RUNS[name])
    for _ in range(3 * KILLS):
        state = broken / "checkpoints" / "last.ckpt"
        killed += kill_when(Command(*line), state, moment)
        if killed == KILLS or (broken / "result.json").exists():
            break
    assert killed == KILLS, f"it ended after {killed} kills"
    finish(line)
    assert numbers(broken) == numbers(whole)
    theirs = load_file(whole / "student.safetensors")
    ours = load_file(broken / "student.safetensors")
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.equal(theirs[key]), key
    assert curve(broken) == curve(whole)
    assert {path.name for path in (broken / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert not [path.name for path in broken.iterdir() if path.suffix == ".tmp"]
