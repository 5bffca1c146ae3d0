"""Rows of metrics.csv of an epoch after which the process ended."""

import csv
import os
import signal

import pytest
from lightning import Callback
from support import configured

from kd.callbacks.checkpoint import Checkpoints
from kd.training.run import run

OPTIONS = ("method=ce", "trainer.max_epochs=2", "logger=csv")


def rows(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def undisturbed(output, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run(configured(folder, output, *OPTIONS), folder)
    return rows(folder)


class StopInValidation(Callback):
    """Send a signal within the validation after the first epoch."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def on_validation_batch_end(self, trainer, *_: object) -> None:
        if trainer.current_epoch == 0:
            os.kill(os.getpid(), self.number)


class KilledError(Exception):
    """Stands for SIGKILL: nothing after it is run."""


def test_epochs_count_from_one(undisturbed):
    assert {row["epoch"] for row in undisturbed if row["val/acc"]} == {"1", "2"}
    assert {row["epoch"] for row in undisturbed if row["train/loss"]} == {"1", "2"}
    assert {row["epoch"] for row in undisturbed if row["test/acc"]} == {"2"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_validation_costs_no_row(number, undisturbed, output, tmp_path):
    cfg = configured(tmp_path, output, *OPTIONS)
    with pytest.raises(SystemExit, match=r"1[34][03]"):
        run(cfg, tmp_path, callbacks=[StopInValidation(number)])
    run(cfg, tmp_path)
    assert rows(tmp_path) == undisturbed


def test_a_kill_after_the_test_leaves_no_row_twice(undisturbed, output, tmp_path, monkeypatch):
    """The figures of the test are logged before the result is written."""
    cfg = configured(tmp_path, output, *OPTIONS)

    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr("kd.training.evaluate.student_metadata", kill)
        with pytest.raises(KilledError):
            run(cfg, tmp_path)
    (part := tmp_path / f".result.json.{os.getpid()}.tmp").write_text("{")
    run(cfg, tmp_path)
    assert rows(tmp_path) == undisturbed
    assert not part.exists()


def test_a_kill_after_the_checkpoint_costs_no_row(undisturbed, output, tmp_path, monkeypatch):
    """Lightning logs the epoch after its checkpoint is saved."""
    save = Checkpoints.on_train_epoch_end

    def killed(self, trainer, pl_module):
        save(self, trainer, pl_module)
        raise KilledError

    cfg = configured(tmp_path, output, *OPTIONS)
    monkeypatch.setattr(Checkpoints, "on_train_epoch_end", killed)
    with pytest.raises(KilledError):
        run(cfg, tmp_path)
    monkeypatch.setattr(Checkpoints, "on_train_epoch_end", save)
    run(cfg, tmp_path)
    assert rows(tmp_path) == undisturbed
