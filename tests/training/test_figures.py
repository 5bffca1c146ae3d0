"""Figures of a finished run: files, TensorBoard images, accuracies by class, refusals."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import accuracy, configured, present
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.metrics import class_accuracies, confusion_matrix
from kd.training.run import run
from kd.validation.check import check_config

LOGITS = torch.tensor([[4.0, 1.0, -2.0], [0.0, 3.0, 2.5], [1.0, 1.0, 1.0], [0.0, 0.0, 900.0]])


def test_accuracies_by_class():
    targets = torch.tensor([0, 1, 1, 2])
    counts = confusion_matrix(LOGITS, targets)
    assert counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert class_accuracies(counts) == [1.0, 0.5, 1.0]
    assert class_accuracies(confusion_matrix(LOGITS[:1], targets[:1])) is None


def test_a_run_draws_what_its_teacher_knows(output, tmp_path):
    options = "figures=[3,17,200]", "logger=tensorboard", "trainer.max_epochs=1"
    result = run(configured(tmp_path, output, *options), tmp_path)
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = ("{}.png", "{}-dark.png", "{}.svg")
    names = ("dark-knowledge", "confusion")
    assert files == {kind.format(name) for name in names for kind in kinds}
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["images"] == ["figures/dark-knowledge", "figures/confusion"]
    assert {tag.split("/")[0] for tag in events.Tags()["scalars"]} <= {
        *("train", "val", "test", "hp", "epoch")
    }
    shares = result["test/acc_per_class"], result["teacher/test/acc_per_class"]
    # digits: nearly as many test images of each class
    for share, whole in zip(shares, (result["test/acc"], result["teacher/test/acc"]), strict=True):
        assert np.mean(present(share)) == pytest.approx(whole, abs=0.01)


def test_chosen_images_are_of_different_classes(output, tmp_path):
    run(configured(tmp_path, output, "figures=true", "trainer.max_epochs=1"), tmp_path)
    assert (tmp_path / "figures" / "dark-knowledge.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("value", "message"),
    [("[]", "indices of test images"), ("yes", "indices of test images"), ("[1.5]", "indices of")],
)
def test_what_cannot_be_meant_is_refused(value, message, output, tmp_path):
    with pytest.raises(UserError, match=message):
        check_config(configured(tmp_path, output, f"figures={value}"))


def test_an_image_that_is_not_there_is_refused_before_the_training(output, tmp_path):
    teachers = tmp_path / "teachers"
    with pytest.raises(UserError, match="figures: no test image 9999; they are 0 to 358"):
        run(
            configured(tmp_path, output, "figures=[1,9999]", f"paths.teachers={teachers}"), tmp_path
        )
    assert not teachers.exists()


def test_the_last_epoch_is_tested_beside_the_chosen(output, tmp_path):
    """The student is ruined in the last epoch, so that the two differ."""
    ruin = "+callbacks.ruin={_target_: test_run.RuinAt, step: 25}"
    options = ruin, "keep_epochs=true", "method=ce"
    result = run(configured(tmp_path, output, *options), tmp_path)
    chosen, last = result["best_epoch"], result["epochs"]
    assert chosen < last
    kept = [accuracy(load_file(RunFolder(tmp_path).epoch(epoch))) for epoch in (chosen, last)]
    assert [result["test/acc"], result["test/acc_last"]] == pytest.approx(kept)
    assert kept[0] != kept[1]
    assert accuracy(load_file(tmp_path / "student.safetensors")) == pytest.approx(kept[0])


def test_of_peers_too(output, tmp_path):
    options = "mode=online", "trainer.max_epochs=1"
    result: Mapping[str, Any] = run(configured(tmp_path, output, *options, teacher=()), tmp_path)
    assert result["peer1/test/acc_last"] == result["peer1/test/acc"]


def test_figures_without_a_teacher_are_none(output, tmp_path, caplog):
    result = run(configured(tmp_path, output, "figures=true", "method=ce"), tmp_path)
    assert result["status"] == "completed"
    assert "this run has no teacher" in caplog.text
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "there"), "cannot be written to there: No space"),
        (ZeroDivisionError("no"), "the run is not affected"),
    ],
)
def test_a_figure_that_fails_costs_no_run(error, message, output, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise error

    monkeypatch.setattr("kd.training.evaluate.draw_figures", fail)
    with caplog.at_level(logging.WARNING):
        result = run(configured(tmp_path, output, "figures=true", "trainer.max_epochs=1"), tmp_path)
    assert result["status"] == "completed"
    assert message in caplog.text
