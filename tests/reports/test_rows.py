"""Rows: runs with equal settings, their means, and repeated runs."""

import os

import pytest
from run_folders import leaderboard, row_of, write_run

from kd.reports.summary import missing_seeds


def test_runs_of_a_row_differ_only_in_the_seed(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", 0.9, knobs={"temperature": 4}, seed=seed, bar=seed == 0)
        write_run(tmp_path / f"b{seed}", 0.8, knobs={"temperature": 2.0}, seed=seed)
    write_run(tmp_path / "c", 0.7, knobs={"temperature": 4.0}, seed=2)
    board = leaderboard(tmp_path)
    assert {row.label: sorted(row.runs) for row in board.rows} == {
        "kd, temperature=4": [0, 1, 2],
        "kd, temperature=2": [0, 1],
    }
    assert row_of(board, "kd, temperature=4").score == pytest.approx((0.9 + 0.9 + 0.7) / 3)
    assert missing_seeds(board) == [("kd, temperature=2 (digits, resnet8)", "no seed 2")]


def test_without_a_teacher_its_settings_do_not_count(tmp_path):
    write_run(tmp_path / "a", 0.9, method="ce", teacher="resnet20", seed=0)
    write_run(tmp_path / "b", 0.8, method="ce", teacher="resnet56", seed=1)
    (row,) = leaderboard(tmp_path).rows
    assert sorted(row.runs) == [0, 1]


def test_a_number_that_one_run_lacks_has_no_mean(tmp_path):
    write_run(tmp_path / "a", 0.9, seed=0, **{"test/acc_last": 0.8})
    write_run(tmp_path / "b", 0.8, seed=1)
    (row,) = leaderboard(tmp_path).rows
    assert (row.mean("test/acc_last"), row.values("test/acc_last")) == (None, [])
    assert row.deviation("test/acc") == pytest.approx(0.1 / 2**0.5)


def test_of_repeated_runs_the_latest_counts(tmp_path):
    first, second = write_run(tmp_path / "a", 0.8), write_run(tmp_path / "b", 0.9)
    os.utime(first / "result.json", (1, 1))
    board = leaderboard(tmp_path)
    assert [row.score for row in board.rows] == [0.9]
    assert [(item.state, item.folder) for item in board.excluded] == [("left out", first)]
    (second / ".hydra" / "config.yaml").unlink()
    (first / ".hydra" / "config.yaml").unlink()
    (item,) = leaderboard(tmp_path).excluded
    assert "cannot be distinguished" in item.why
