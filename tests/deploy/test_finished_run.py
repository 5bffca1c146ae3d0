"""Finished runs as evaluation, export, compression and prediction read them."""

import json
import re
import shutil
from typing import cast

import pytest
import torch
from finished_runs import KINDS, finished_run

from kd.config.trust import Trust
from kd.data.datamodule import ImageDataModule
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.io.checksums import with_checksum


def accuracy(logits, targets):
    return (logits.argmax(1) == targets).float().mean().item()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_student_and_teacher_have_the_recorded_accuracies(kind, output):
    run = FinishedRun(finished_run(kind, output))
    targets = run.data.test_targets
    images = cast(ImageDataModule, run.data).arrays.test_images
    assert accuracy(run.student(images), targets) == run.result["test/acc"]
    recorded = run.result["teacher/test/acc"]
    assert (run.teacher is None) == (recorded is None)
    if run.teacher is not None:
        assert run.teacher.test_acc == recorded
        assert accuracy(run.teacher.test_logits, targets) == recorded


def test_nothing_is_written_into_the_runs_folder(output):
    folder = finished_run("simkd", output)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run = FinishedRun(folder)
    assert run.student is not None
    assert run.teacher is not None
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.fixture
def copied(output, tmp_path):
    """A copy of a finished run, to be damaged."""
    folder = tmp_path / "outputs" / "runs" / "mine"
    shutil.copytree(finished_run("kd", output), folder)
    return folder


def edit(folder, **changes):
    file = folder / "result.json"
    file.write_text(json.dumps(with_checksum(json.loads(file.read_text()) | changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "failed", "error": "RuntimeError: full"}, r"failed \(RuntimeError: full\);"),
        ({"status": "pruned"}, r"its status is pruned; resume it"),
        ({"format": 99}, r"format 99, and this version of kd reads up to"),
        ({"val/acc": "high"}, r"val/acc='high' is not of type float"),
    ],
)
def test_a_run_without_a_trained_student_is_refused(changes, message, copied):
    edit(copied, **changes)
    with pytest.raises(UserError, match=message):
        FinishedRun(copied)


def test_folders_that_are_no_finished_run_are_named(copied, tmp_path):
    with pytest.raises(UserError, match=r"run=.*mime: there is no such folder; .*'mine'"):
        FinishedRun(copied.with_name("mime"))
    with pytest.raises(UserError, match="is a file; name the run's folder"):
        FinishedRun(copied / "result.json")
    with pytest.raises(UserError, match=r"baseline=.* is no run: it holds no result\.json"):
        FinishedRun(tmp_path, "baseline")
    (copied / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"its result\.json is damaged"):
        FinishedRun(copied)
    (copied / "result.json").unlink()
    with pytest.raises(UserError, match=r"not finished; resume it: python -m kd\.train resume="):
        FinishedRun(copied)


def test_a_teacher_that_is_gone_is_not_trained_again(copied, tmp_path):
    config = copied / ".hydra" / "config.yaml"
    elsewhere = f"output: {tmp_path / 'outputs'}"
    lines = [
        line if "  output: " not in line else f"  {elsewhere}"
        for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines))
    run = FinishedRun(copied)
    with pytest.raises(UserError, match=r"teacher resnet8 is not in .* teacher_checkpoint=FILE"):
        _ = run.teacher
    assert not (tmp_path / "outputs" / "teachers").exists()
    own = FinishedRun(copied, teacher_checkpoint=str(copied / "student.safetensors"))
    with pytest.raises(UserError, match="student"):  # its width is another
        _ = own.teacher


def test_a_strangers_record_builds_nothing(copied):
    config = copied / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("kd.objectives.kd.", "os.path."))
    with pytest.raises(UserError, match=r"only your own command may have[^$]*trust=true"):
        _ = FinishedRun(copied).cfg


def test_a_run_of_ones_own_may_lie_outside_its_output_folder(copied):
    config = copied / ".hydra" / "config.yaml"
    moved = str(copied.parent / "elsewhere")
    config.write_text(re.sub(r"(?m)^  output: .*$", f"  output: {moved}", config.read_text()))
    with pytest.raises(UserError, match="the run's folder is not in it"):
        _ = FinishedRun(copied).cfg
    assert FinishedRun(copied, trust=Trust(record=True)).cfg.paths.output == moved
