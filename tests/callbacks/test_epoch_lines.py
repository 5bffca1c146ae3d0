"""Log lines of the epochs, where there is no progress bar."""

import csv
import logging
import re

import pytest
from support import configured

from kd.callbacks.epoch_lines import duration
from kd.training.run import run

LINE = re.compile(
    r"student resnet8: epoch (\d)/3, train loss ([\d.]+), validation accuracy ([\d.]+), "
    r"(\d+) images/s, \d+ s left"
)


def test_every_epoch_has_a_line_with_its_own_figures(output, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(configured(tmp_path, output, "method=ce", "logger=csv"), tmp_path)
    lines = [match.groups() for match in map(LINE.search, caplog.messages) if match]
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for column, name in ((1, "train/loss"), (2, "val/acc")):
        expected = [float(row[name]) for row in rows if row[name]]
        assert [float(line[column]) for line in lines] == pytest.approx(expected, abs=1e-4)
    assert [line[0] for line in lines] == ["1", "2", "3"]
    assert all(int(line[3]) > 0 for line in lines)


def test_the_lines_of_a_teachers_training_name_the_teacher(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(configured(tmp_path, tmp_path, "trainer.max_epochs=1"), tmp_path / "run")
    named = [line.partition(",")[0] for line in caplog.messages if ": epoch " in line]
    assert named == ["teacher resnet8: epoch 1/1", "student resnet8: epoch 1/1"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3661, "1 h 1 min"),
        (86400, "24 h 0 min"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert duration(seconds) == text
