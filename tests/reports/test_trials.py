"""Trials of searches: the best on validation after n of them."""

import math
from pathlib import Path

import pytest
from run_folders import ABOUT, leaderboard, write_run

from kd.reports.figures.budget import specs
from kd.reports.trials import Trial, best_after, searches
from kd.reports.write import write_report


def test_a_trial_without_a_value_is_a_trial():
    values = [None, 0.5, None, 0.4, 0.9]
    trials = [Trial(Path("a"), "kd", "digits", "resnet8", "accuracy", v) for v in values]
    first, *rest = best_after(trials)
    assert math.isnan(first)
    assert rest == [0.5, 0.5, 0.5, 0.9]


def test_searches_of_two_methods_are_one_figure(tmp_path):
    values = {"kd": [0.8, 0.7, 0.9], "dkd": [0.6, 0.95, 0.5]}
    for method, found in values.items():
        for number, value in enumerate(found):
            status = "pruned" if number == 1 and method == "kd" else "untested"
            folder = tmp_path / "runs" / method / f"trial_{number:04d}"
            write_run(folder, value, method=method, status=status, **{"test/acc": None})
    board = leaderboard(tmp_path / "runs")
    assert board.rows == []
    curves = {folder.name: best_after(trials) for folder, trials in searches(board.trials).items()}
    assert curves == {"kd": [0.8, 0.8, 0.9], "dkd": [0.6, 0.95, 0.95]}
    (spec,) = specs(board)
    assert spec.title == "Tuning budget (digits, resnet8)"
    write_report(board, ABOUT, tmp_path / "report")
    assert (tmp_path / "report/figures/tuning-budget-digits-resnet8.png").stat().st_size > 1000


def test_one_trial_is_no_curve(tmp_path):
    write_run(tmp_path / "a" / "trial_0000", 0.8, status="untested")
    assert list(specs(leaderboard(tmp_path))) == []


@pytest.mark.parametrize("value", ["many", -1, 2])
def test_values_that_no_trial_has_are_none(tmp_path, value):
    write_run(tmp_path / "a" / "trial_0000", 0.8, status="untested", **{"val/acc": value})
    assert [trial.value for trial in leaderboard(tmp_path).trials] == [None]
