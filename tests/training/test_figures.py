"""Figures of student and teacher: files, TensorBoard images, accuracies by class, refusals."""

import logging

import numpy as np
import pytest
import torch
from support import configured, present
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd.errors import UserError
from kd.metrics import class_accuracies, confusion_matrix
from kd.training.run import run
from kd.validation.check import check_config

LOGITS = torch.tensor([[4.0, 1.0, -2.0], [0.0, 3.0, 2.5], [1.0, 1.0, 1.0], [0.0, 0.0, 900.0]])


def test_accuracies_by_class():
    targets = torch.tensor([0, 1, 1, 2])
    counts = confusion_matrix(LOGITS, targets)
    assert counts.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert class_accuracies(counts) == [1.0, 0.5, 1.0]
    assert class_accuracies(confusion_matrix(LOGITS[:1], targets[:1])) == [1.0, None, None]


def test_a_run_draws_its_figures(output, tmp_path):
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
        assert np.mean([present(acc) for acc in present(share)]) == pytest.approx(whole, abs=0.01)


@pytest.mark.slow
def test_chosen_images_are_of_different_classes(output, tmp_path):
    run(configured(tmp_path, output, "figures=true", "trainer.max_epochs=1"), tmp_path)
    assert (tmp_path / "figures" / "dark-knowledge.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("value", "message"),
    [("[]", "indices of test images"), ("yes", "indices of test images"), ("[1.5]", "indices of")],
)
def test_wrong_values_are_refused(value, message, output, tmp_path):
    with pytest.raises(UserError, match=message):
        check_config(configured(tmp_path, output, f"figures={value}"))


def test_an_image_that_is_not_there_is_refused_before_the_training(output, tmp_path):
    teachers = tmp_path / "teachers"
    with pytest.raises(UserError, match="figures: no test image 9999; they are 0 to 358"):
        run(
            configured(tmp_path, output, "figures=[1,9999]", f"paths.teachers={teachers}"), tmp_path
        )
    assert not teachers.exists()


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
