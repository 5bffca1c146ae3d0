"""Finished runs as evaluation, export, compression and prediction read them."""

import json
import re
import shutil
from pathlib import Path
from typing import cast

import pytest
import torch
from finished_runs import KINDS, finished_run
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from support import present

from kd.config.trust import Trust
from kd.data.datamodule import ImageDataModule
from kd.deploy.evaluation.notes import run_notes, teacher_notes
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.io.checksums import with_checksum

_SEVERAL = ("online", "byot", "ensemble")


def accuracy(logits, targets):
    return (logits.argmax(1) == targets).float().mean().item()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_student_and_teacher_have_the_recorded_accuracies(kind, output):
    run = FinishedRun(finished_run(kind, output))
    targets = run.data.test_targets
    images = cast(ImageDataModule, run.data).arrays.test_inputs
    assert accuracy(run.student(images), targets) == run.result["test/acc"]
    recorded = run.result["teacher/test/acc"]
    assert (run.teacher is None) == (recorded is None)
    if run.teacher is not None:
        assert run.teacher.test_figures["acc"] == recorded
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
    with pytest.raises(UserError, match=r"run=\[1, 2\]: name the folder of one run"):
        FinishedRun(cast(str, [1, 2]))
    with pytest.raises(UserError, match="run=7: there is no such folder"):
        FinishedRun(cast(str, 7))
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


def test_the_outputs_for_training_images_are_left_alone(output):
    folder = output / "runs" / "refreshed"
    shutil.copytree(finished_run("kd", output), folder)
    config = folder / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("    mode: auto\n", "    mode: refresh\n"))
    assert FinishedRun(folder).cfg.teacher.cache.mode == "refresh"
    before = {p: p.stat().st_mtime_ns for p in (output / "cache").glob("*-train-*/**/*")}
    assert before
    assert FinishedRun(folder).teacher is not None
    assert {p: p.stat().st_mtime_ns for p in (output / "cache").glob("*-train-*/**/*")} == before


def test_the_stage_before_is_the_teacher_in_a_chain_that_was_moved(output):
    chain = output / "chains" / "moved"
    shutil.copytree(finished_run("kd", output), chain / "2_resnet8")
    config = chain / "2_resnet8" / ".hydra" / "config.yaml"
    cfg = cast(DictConfig, OmegaConf.load(config))
    cfg.teacher.checkpoint = "${paths.chain}/1_resnet8"
    OmegaConf.update(cfg, "paths.chain", "/where/it/was")
    OmegaConf.save(cfg, config)
    run = FinishedRun(chain / "2_resnet8")
    taught = run.result["teacher/test/acc"]
    (teacher,) = [
        path.parent
        for path in (output / "teachers").glob("resnet8-*/result.json")
        if json.loads(path.read_text())["test/acc"] == taught
    ]
    shutil.copytree(teacher, chain / "1_resnet8")
    stages = [{"stage": "1_resnet8"}, {"stage": "2_resnet8"}]
    (chain / "chain.json").write_text(json.dumps({"status": "completed", "runs": stages}))
    run = FinishedRun(chain)
    assert run.folder == chain / "2_resnet8"
    assert (present(run.teacher).source, present(run.teacher).test_figures["acc"]) == (
        "checkpoint",
        taught,
    )


def test_the_sheet_says_what_kind_of_run_it_is(output):
    online, byot, ensemble = (FinishedRun(finished_run(k, output)) for k in _SEVERAL)
    (peers,) = run_notes(online, "student", online.data, own=True)
    assert f"peer1 (resnet8) {100 * cast(dict, online.result)['peer1/test/acc']:.2f} %" in peers
    (exits,) = run_notes(byot, "student", byot.data, own=True)
    assert f"exit1 {100 * cast(dict, byot.result)['test/exit1/acc']:.2f} %" in exits
    (members,) = teacher_notes(ensemble, has_embedding=False)
    assert all(f"{name} " in members for name in ensemble.result["teacher/members"])


def test_a_folder_of_runs_names_them(copied):
    with pytest.raises(UserError, match="is no run: it holds the runs mine; name one of them"):
        FinishedRun(copied.parent)


def test_a_student_without_a_description_is_built_from_the_config(copied):
    weights = load_file(copied / "student.safetensors")
    save_file(weights, copied / "student.safetensors")
    with pytest.raises(UserError, match="does not say of which net"):
        _ = FinishedRun(copied).student


def test_what_a_run_was_trained_on_may_be_gone(output):
    folder = output / "runs" / "orphan"
    shutil.copytree(finished_run("kd", output), folder)
    config = folder / ".hydra" / "config.yaml"
    cfg = cast(DictConfig, OmegaConf.load(config))
    OmegaConf.update(cfg, "data.root", "/nowhere", force_add=True)
    OmegaConf.save(cfg, config)
    with pytest.raises(UserError, match=r"data\.root=/nowhere: there is no such folder; put the"):
        _ = FinishedRun(folder).cfg
    cfg.data = {"name": "external", "given": "loaders"}
    OmegaConf.save(cfg, config)
    with pytest.raises(UserError, match=r"its data were given to kd\.distil and are not in its"):
        _ = FinishedRun(folder).data
    config.unlink()
    with pytest.raises(UserError, match=r"run=.*: it holds no \.hydra/config\.yaml, the record"):
        _ = FinishedRun(folder).cfg


def test_a_teacher_that_was_given_is_not_in_the_run(output):
    run = FinishedRun(finished_run("kd", output))
    run.result["teacher/source"] = "given"
    with pytest.raises(UserError, match=r"its teacher was given to kd\.distil as a module"):
        _ = run.teacher


@pytest.mark.parametrize("kind", ["ce", "ensemble"])
def test_weights_for_a_teacher_that_is_none_are_refused(kind, output):
    run = FinishedRun(finished_run(kind, output), teacher_checkpoint="weights.pt")
    with pytest.raises(UserError, match=r"teacher_checkpoint=weights\.pt: the .*; remove it"):
        _ = run.teacher


def test_a_strangers_record_builds_nothing(copied):
    config = copied / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("kd.objectives.kd.", "os.path."))
    with pytest.raises(UserError, match=r"only your own command may have[^$]*trust=true"):
        _ = FinishedRun(copied).cfg


def test_a_run_may_lie_outside_the_output_folder_of_its_record(copied):
    """Teachers are read from there, but caches are written where only the user has a say."""
    config = copied / ".hydra" / "config.yaml"
    elsewhere = copied.parent / "elsewhere"
    text = re.sub(r"(?m)^  output: .*$", f"  output: {elsewhere}", config.read_text())
    config.write_text(text)
    paths = FinishedRun(copied).cfg.paths
    assert Path(paths.teachers).parent == Path(paths.output) == elsewhere
    assert Path(paths.cache) == copied.parent / "cache"
    own = FinishedRun(copied, trust=Trust(record=True)).cfg.paths
    assert Path(own.cache).parent == elsewhere


def test_a_missing_folder_is_named_without_a_list_of_hundreds(tmp_path):
    for number in range(30):
        (tmp_path / f"sweep_{number}").mkdir()
    with pytest.raises(UserError, match=r"no such folder; in .*: did you mean 'sweep_12'\?$"):
        FinishedRun(tmp_path / "sweep-12")
    with pytest.raises(UserError, match=r"no such folder; in .*: 30 other folders$"):
        FinishedRun(tmp_path / "qqq")
