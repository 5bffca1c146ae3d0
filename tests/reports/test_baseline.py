"""Choice of the baseline: by name or settings, `ce`, or the first row."""

import os

import pytest
from run_folders import leaderboard, write_run, write_sweep

from kd.errors import UserError


def test_a_baseline_is_chosen_by_method_or_settings(tmp_path):
    write_sweep(tmp_path, ce=[0.9, 0.91], at=[0.8, 0.82])
    for seed in (0, 1):
        write_run(tmp_path / f"t4{seed}", 0.9, seed=seed, knobs={"temperature": 4.0})
        write_run(tmp_path / f"t8{seed}", 0.9, seed=seed, knobs={"temperature": 8.0})
    assert leaderboard(tmp_path, "at").groups[0].baseline.label == "at"
    chosen = leaderboard(tmp_path, "method=kd,temperature=4").groups[0].baseline
    assert chosen.label == "kd, temperature=4"
    assert leaderboard(tmp_path, "method.temperature=8.0").groups[0].baseline.label.endswith("=8")
    with pytest.raises(UserError, match="baseline=kdd matches no row; rows: at; ce; kd, te"):
        leaderboard(tmp_path, "kdd")
    with pytest.raises(UserError, match=r"baseline=kd matches several rows.*temperature=4; kd, te"):
        leaderboard(tmp_path, "kd")


def test_without_ce_the_first_row_is_the_baseline(tmp_path):
    for age, method in enumerate(["at", "kd"]):
        folder = write_run(tmp_path / method, 0.9, method=method)
        os.utime(folder / "result.json", (age, age))
    (group,) = leaderboard(tmp_path).groups
    assert group.baseline.label == "at"
    assert [row.gap for row in group.rows] == [None, None]


def test_of_several_ce_rows_the_one_with_most_seeds_is_the_baseline(tmp_path):
    write_run(tmp_path / "a", 0.9, method="ce", epochs=1)
    for seed in (0, 1):
        write_run(tmp_path / f"b{seed}", 0.9, method="ce", epochs=2, seed=seed)
    (group,) = leaderboard(tmp_path).groups
    assert group.baseline.label == "ce, max_epochs=2"
