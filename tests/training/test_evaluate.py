"""The evaluation of a trained student: selected weights, test figures, and files."""

import csv
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file
from support import accuracy, configured, present

from kd.errors import UserError
from kd.io.predictions import read_predictions
from kd.io.run_folder import RunFolder
from kd.training.run import run


class RuinAt(Callback):
    """Set every weight of the student to zero after the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            for parameter in pl_module.student.parameters():
                parameter.data.zero_()


def test_the_weights_that_validation_selected_are_tested(output, tmp_path):
    stop = "+callbacks.ruin={_target_: test_evaluate.RuinAt, step: 28}"
    result = run(configured(tmp_path, output, "method=ce", "logger=csv", stop), tmp_path)
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        scores = [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert len(scores) == 3
    assert max(scores) > scores[2]
    assert result["val/acc"] == pytest.approx(max(scores))
    assert result["best_epoch"] == 1 + max(i for i in range(3) if scores[i] == max(scores))
    saved = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    weights = load_file(tmp_path / "student.safetensors")
    assert all(value.equal(saved[f"student.{key}"]) for key, value in weights.items())
    assert result["test/acc"] > 0.11  # a student of zeros predicts a single class: a tenth


def test_the_predictions_are_those_of_the_tested_weights(output, tmp_path):
    result = run(configured(tmp_path, output, "trainer.max_epochs=2"), tmp_path)
    found = present(read_predictions(RunFolder(tmp_path).test_predictions))
    right, theirs = found.student == found.labels, present(found.teacher) == found.labels
    assert len(found.labels) == result["test/images"]
    assert [right.mean(), theirs.mean()] == pytest.approx(
        [result["test/acc"], result["teacher/test/acc"]]
    )
    assert (found.student == found.teacher).mean() == pytest.approx(result["test/agreement"])
    assert accuracy(load_file(tmp_path / "student.safetensors")) == pytest.approx(right.mean())
    assert RunFolder(tmp_path).test_predictions.stat().st_size < 100_000


def test_a_run_without_a_test_keeps_no_predictions(output, tmp_path):
    run(configured(tmp_path, output, "trainer.max_epochs=1"), tmp_path, test=False)
    assert not RunFolder(tmp_path).test_predictions.exists()


@pytest.mark.slow
def test_simkd_saves_the_net_that_predicts(output, tmp_path):
    """Chen et al. 2022: at inference the student's maps go through projector and teacher's head."""
    epochs = ["trainer.max_epochs=10", "teacher.training.trainer.max_epochs=10"]
    result = run(configured(tmp_path, output, "method=simkd", *epochs), tmp_path)
    weights = load_file(tmp_path / "student.safetensors")
    parts = {key.split(".")[0] for key in weights}
    assert parts == {"changed_student", "objective"}
    assert {"objective.head.weight", "objective.projector.0.weight"} <= weights.keys()
    trained = [k for k in weights if "running" not in k and "num_batches" not in k]
    assert result["student/params"] == sum(weights[key].numel() for key in trained)
    assert result["test/acc"] > 0.3  # the student's own untrained head has 0.1
    with pytest.raises(UserError, match="of a method that predicts with parts of its own"):
        run(configured(tmp_path, output, f"teacher.checkpoint={tmp_path}"), tmp_path / "next")


def test_the_last_epoch_is_tested_as_well(output, tmp_path):
    """The last epoch sets the student to zero, so that it differs from the selected one."""
    ruin = "+callbacks.ruin={_target_: test_evaluate.RuinAt, step: 25}"
    options = ruin, "keep_epochs=true", "method=ce"
    result = run(configured(tmp_path, output, *options), tmp_path)
    selected, last = result["best_epoch"], result["epochs"]
    assert selected < last
    kept = [accuracy(load_file(RunFolder(tmp_path).epoch(epoch))) for epoch in (selected, last)]
    assert [result["test/acc"], result["test/acc_last"]] == pytest.approx(kept)
    assert kept[0] != kept[1]
    assert accuracy(load_file(tmp_path / "student.safetensors")) == pytest.approx(kept[0])


def test_the_last_epoch_of_peers_is_tested_as_well(output, tmp_path):
    options = "mode=online", "trainer.max_epochs=1"
    result: Mapping[str, Any] = run(configured(tmp_path, output, *options, teacher=()), tmp_path)
    assert result["peer1/test/acc_last"] == result["peer1/test/acc"]


@pytest.mark.parametrize(
    "options",
    [
        ["+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=1"],
        ["+trainer.max_steps=7"],
        ["+trainer.max_time=00:00:00:00"],
    ],
)
def test_a_run_without_validation_is_validated_at_its_end(options, output, tmp_path):
    result = run(configured(tmp_path, output, "method=ce", *options), tmp_path)
    assert result["status"] == "completed"
    assert 0 <= result["val/acc"] <= 1
    assert result["test/acc"] == result["test/acc_last"]
