"""A metrics.csv that survives interruptions."""

import csv

import pytest
import torch

from kd.callbacks.csv_logger import ResumableCSVLogger


def logger(folder):
    return ResumableCSVLogger(folder, name="", version="csv")


def rows(folder):
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def interrupted(tmp_path):
    """A folder with rows of steps 3, 7 and 11."""
    first = logger(tmp_path)
    for step in (3, 7, 11):
        first.log_metrics({"val/acc": step / 100}, step)
    first.log_hyperparams({"seed": 0})
    first.finalize("interrupted")
    return tmp_path


def test_resumed_run_continues_the_file(interrupted):
    resumed = logger(interrupted)
    resumed.truncate(7)  # the checkpoint is of step 7, whose metrics are logged again
    resumed.log_metrics({"val/acc": torch.tensor(0.5), "train/loss": 1.0}, 7)
    resumed.save()
    assert rows(interrupted) == [
        {"step": "3", "train/loss": "", "val/acc": "0.03"},
        {"step": "7", "train/loss": "1.0", "val/acc": "0.5"},
    ]
    assert (interrupted / "csv" / "hparams.yaml").read_text() == "seed: 0\n"


def test_run_from_the_first_step_starts_a_new_file(interrupted):
    fresh = logger(interrupted)
    fresh.truncate(0)
    fresh.log_metrics({"val/nll": 2.0}, 0)
    fresh.finalize("success")
    assert rows(interrupted) == [{"step": "0", "val/nll": "2.0"}]


@pytest.mark.parametrize(
    "damage", [b"", b"\x00\xff\x00", b"step,val/acc\n3,0.5,surplus\nhalf a r", b"no,steps\n1,2\n"]
)
def test_damaged_file_is_continued_from_its_complete_rows(damage, interrupted):
    (interrupted / "csv" / "metrics.csv").write_bytes(damage)
    resumed = logger(interrupted)
    resumed.log_metrics({"val/acc": 0.25}, 12)
    resumed.save()
    complete = ["3"] if b"surplus" in damage else []
    assert [row["step"] for row in rows(interrupted)] == [*complete, "12"]
