"""Full disks and parallel jobs."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from commands import Command

SMALL = ("teacher=resnet8", "student=resnet8", "student.net.width=0.5")


@pytest.fixture
def tiny_disk(tmp_path):
    """A folder with room for one checkpoint but not two, and a function that enlarges it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False

    if not mount("size=300k"):
        pytest.skip("no right to mount a file system")
    yield folder, lambda: mount("remount", "size=20m")
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_checkpoint(tiny_disk, train, tmp_path):
    disk, grow = tiny_disk
    options = [*SMALL, "method=ce", "logger=none", "trainer.max_epochs=3"]
    options += [f"hydra.run.dir={disk}/run"]
    answer = train(*options)
    assert answer.returncode == 1
    assert f"cannot write to {disk}/run/checkpoints/" in answer.stderr
    assert "No space left on device" in answer.stderr
    assert "Traceback" not in answer.stderr
    failed = json.loads((disk / "run" / "result.json").read_text())
    assert (failed["status"], "No space left" in failed["error"]) == ("failed", True)
    state = torch.load(disk / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert grow()
    again = train(*options)
    assert again.returncode == 0, again.stderr
    assert "resuming from" in again.stdout
    whole = tmp_path / "whole"
    assert train(*options[:-1], f"hydra.run.dir={whole}").returncode == 0
    ours, theirs = (json.loads((f / "result.json").read_text()) for f in (disk / "run", whole))
    assert ours["test/nll"] == theirs["test/nll"]
    assert state["epoch"] < 2


def job(folder: Path, output: Path, seed: int) -> Command:
    line = [*SMALL, "trainer=cpu", "logger=none"]
    line += ["trainer.enable_progress_bar=false", "trainer.max_epochs=2", f"seed={seed}"]
    # all jobs use the same views, and so the same teacher outputs
    line += ["data/view=none", "teacher.training.trainer.max_epochs=6"]
    line += [f"paths.output={output}", f"hydra.run.dir={folder}"]
    return Command("kd.train", *line)


def wait_for(found, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_eight_jobs_start_at_once_and_one_is_killed(tmp_path):
    """Registry and cache are empty: one teacher is trained, and its outputs are computed once."""
    teachers = tmp_path / "teachers"
    first = job(tmp_path / "first", tmp_path, seed=7)
    # It is killed while it holds the teacher's lock and has written a checkpoint.
    wait_for(lambda: list(teachers.glob(".*.unfinished/checkpoints/last.ckpt")))
    others = [job(tmp_path / str(seed), tmp_path, seed) for seed in range(7)]
    wait_for(lambda: list(teachers.glob(".*.unfinished/checkpoints/last.ckpt")))
    first.send_signal(signal.SIGKILL)
    assert first.ended().returncode == -signal.SIGKILL
    answers = [process.ended() for process in others]
    assert {answer.returncode for answer in answers} == {0}, answers
    assert sum("resuming the teacher's training from" in answer.stdout for answer in answers) == 1
    last = job(tmp_path / "first", tmp_path, seed=7).ended()
    assert last.returncode == 0, last.stderr

    found = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("*/result.json"))]
    assert len(found) == 8
    assert sorted(result["teacher/source"] for result in found) == ["reused"] * 7 + ["trained now"]
    assert len({result["teacher/test/acc"] for result in found}) == 1
    assert len([path for path in teachers.iterdir() if path.name[0] != "."]) == 1
    # Of 1797 images 1294 are for training and 359 for the test; each is computed by one job
    assert sum(result["teacher_forwards"] for result in found) <= 1294 + 359
