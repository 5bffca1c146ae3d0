"""Compression of finished runs: what becomes smaller, what is refused, what the files compute."""

from dataclasses import replace
from typing import cast

import pytest
import torch
from finished_runs import finished_run
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file

from kd.config.compose import CONF_DIR
from kd.deploy.compression.compress import Measured
from kd.deploy.compression.pareto import best, write_sheet
from kd.deploy.compression.search import Plan, compress_all
from kd.deploy.load import load
from kd.errors import UserError
from kd.io.result_file import read_result
from kd.training.run import run as train


def plan(run, **settings):
    cfg = OmegaConf.load(CONF_DIR / "compress.yaml")
    given = OmegaConf.create({"run": str(run), "max_drop": 100} | settings)
    return Plan.from_settings(cast(DictConfig, OmegaConf.merge(cfg, given)))


def test_magnitude_and_int8_together(output, tmp_path):
    run = finished_run("kd", output, "data.val_fraction=0.3")
    made = plan(run, prune="magnitude", ratio=0.6, output=str(tmp_path / "small"), max_epochs=3)
    before, after = compress_all(made)
    assert after.gzip_bytes < 0.5 * before.gzip_bytes
    assert after.macs == before.macs
    student = load(tmp_path / "small")
    images, targets = made.run.data.arrays.test_images, made.run.data.test_targets
    with torch.no_grad():
        accuracy = (student(images).argmax(1) == targets).float().mean().item()
    assert accuracy == after.test_acc
    weights = list(load_file(tmp_path / "small" / "student.safetensors").values())
    kernels = [w for w in weights if w.dim() > 1]
    zeros = sum((w == 0).sum().item() for w in kernels) / sum(w.numel() for w in kernels)
    assert zeros >= 0.6 - 1e-3  # the count is rounded
    assert all(len(channel.unique()) <= 255 for w in kernels for channel in w)
    # The same command again trains nothing
    assert compress_all(made)[1].val_acc == after.val_acc


@pytest.mark.parametrize("method", ["kd", "fitnet", "at"])
def test_channels_are_removed_under_any_method(method, output, tmp_path):
    finished_run("kd", output)  # its teacher is in the registry
    run = finished_run("ce", output)
    made = plan(run, ratio=0.5, taught_by=method, output=str(tmp_path / "small"), max_epochs=1)
    before, after = compress_all(made)
    assert after.parameters < 0.4 * before.parameters
    assert after.macs < 0.5 * before.macs
    result = read_result(tmp_path / "small") or {}
    assert result["method"] == method
    assert result["teacher"] == "resnet8"
    assert result["student/params"] == after.parameters


def test_defaults_are_a_tenth_of_the_rate_and_half_of_the_epochs(output):
    run = finished_run("kd", output)
    made = plan(run)
    ((_, cfg),) = made.steps
    assert cfg.optimizer.lr == pytest.approx(made.run.cfg.optimizer.lr / 10)
    assert cfg.trainer.max_epochs == 1
    assert made.output.parent == run.parent


def test_a_search_keeps_its_finished_ratios(output, tmp_path, monkeypatch):
    settings = {"walk": True, "quantise": "none", "max_epochs": 1, "output": str(tmp_path / "all")}
    run = finished_run("kd", output)
    made = plan(run, ratios=[0.5, 0.25], **settings)
    students = compress_all(made)
    assert [each.label for each in students[1:]] == ["channels0.25", "channels0.5"]
    assert students[1].macs > students[2].macs
    files = write_sheet(students, 100, tmp_path / "all", "python -m kd.compress")
    assert "channels0.25" in files[1].read_text()
    trained = []

    def count(cfg, *arguments):
        trained.append(cfg.compression.ratio)
        return train(cfg, *arguments)

    monkeypatch.setattr("kd.deploy.compression.compress.train", count)
    compress_all(plan(run, ratios=[0.25, 0.5, 0.75], **settings))
    assert trained == [0.75]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratio": 1}, "ratio=1: must be above 0 and below 1"),
        ({"prune": "channel"}, "prune=channel: .*channels"),
        ({"quantise": "int4"}, "quantise=int4: .*int8"),
        ({"max_drop": -1}, "max_drop=-1: must be points"),
        ({"max_epochs": 0}, "max_epochs=0: must be a number above 0"),
        ({"prune": "none", "quantise": "none"}, "leaves nothing to do"),
        ({"taught_by": "fitnett"}, "method=fitnett: .*fitnet"),
        ({"walk": True, "ratios": [0.5, 2]}, "ratios=2: must be above 0"),
        ({"walk": True, "prune": "none"}, "search=true walks pruning ratios"),
    ],
)
def test_impossible_settings_are_named(settings, message, output):
    with pytest.raises(UserError, match=message):
        plan(finished_run("kd", output), **settings)


def test_a_folder_with_something_else_is_left_alone(output, tmp_path):
    run = finished_run("kd", output)
    (tmp_path / "mine").write_text("important")
    with pytest.raises(UserError, match="exists and holds no compressed run"):
        compress_all(plan(run, output=str(tmp_path)))
    with pytest.raises(UserError, match="holds another run, with"):
        compress_all(plan(run, output=str(run)))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_simkd_is_refused(output, tmp_path):
    made = plan(finished_run("simkd", output), output=str(tmp_path / "small"))
    with pytest.raises(UserError, match="method=simkd predicts with the teacher's classifier"):
        compress_all(made)


def measured(label, drop, size, macs=100):
    return Measured(label, "runs/a", 0.9 - drop / 100, drop, None, 1, 1, size, macs, 1.0, drop <= 1)


def test_the_best_are_those_that_no_other_one_beats_within_the_bound(tmp_path):
    students = [
        measured("uncompressed", 0, 1000),
        measured("small", 0.9, 300),
        measured("beaten", 0.95, 400),
        measured("tiny", 1.1, 10, macs=1),
    ]
    assert [each.label for each in best(students)] == ["uncompressed", "small"]
    (_, page) = write_sheet(students, 1, tmp_path, "python -m kd.compress")
    lines = page.read_text().splitlines()
    (row,) = (line for line in lines if "exceeds max_drop=1" in line)
    assert row.startswith("| tiny | 88.90")
    equal = [students[1], replace(students[1], label="other")]
    assert best(equal) == equal
