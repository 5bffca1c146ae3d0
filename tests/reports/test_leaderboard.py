"""Leaderboards: groups, comparisons over common seeds, recovered gap, excluded runs."""

from typing import Any

import pytest
from run_folders import leaderboard, row_of, write_run, write_sweep
from scipy import stats
from support import present

from kd.reports.matrix import matrices
from kd.reports.summary import summary


def test_rows_are_compared_with_ce_over_common_seeds(tmp_path):
    write_sweep(
        tmp_path, kd=[0.95, 0.96, 0.97], ce=[0.90, 0.905, 0.92, 0.93], at=[0.80, 0.82, 0.83]
    )
    write_run(tmp_path / "single", 0.99, method="dkd", seed=0)
    write_run(tmp_path / "apart", 0.5, method="sp", seed=9)
    board = leaderboard(tmp_path)
    (group,) = board.groups
    assert [row.label for row in group.rows] == ["dkd", "kd", "ce", "at", "sp"]
    assert group.baseline.label == "ce"
    kd, at = (present(row_of(board, label).comparison) for label in ("kd", "at"))
    assert kd.seeds == 3
    assert kd.mean == pytest.approx((0.05 + 0.055 + 0.05) / 3)
    p_kd = stats.ttest_rel([0.95, 0.96, 0.97], [0.90, 0.905, 0.92]).pvalue
    p_at = stats.ttest_rel([0.80, 0.82, 0.83], [0.90, 0.905, 0.92]).pvalue
    # `dkd` shares one seed with `ce` and `sp` none: Holm's correction counts two comparisons.
    assert kd.p_holm == pytest.approx(2 * p_kd)
    assert at.p_holm == pytest.approx(max(2 * p_kd, p_at))
    assert (kd.verdict, at.verdict) == ("better", "worse")
    assert present(row_of(board, "dkd").comparison).verdict is None
    assert row_of(board, "sp").comparison is None
    ce = (0.90 + 0.905 + 0.92) / 3  # over the common seeds
    assert row_of(board, "kd").gap == pytest.approx((0.96 - ce) / (0.99 - ce))


def test_another_student_or_data_set_is_another_group(tmp_path):
    write_run(tmp_path / "a", 0.9, method="ce")
    write_run(tmp_path / "b", 0.8, method="ce", width=0.5)
    write_run(tmp_path / "c", 0.7, method="ce", data="mnist")
    titles = {group.title for group in leaderboard(tmp_path).groups}
    assert titles == {
        "digits, resnet8, width=1",
        "digits, resnet8, width=0.5",
        "mnist, resnet8, width=1",
    }


def test_taps_that_a_method_reads_make_no_group(tmp_path):
    for seed, gain in enumerate((0.01, 0.02)):
        write_run(tmp_path / f"ce{seed}", 0.9, method="ce", seed=seed)
        write_run(tmp_path / f"kd{seed}", 0.9 + gain, seed=seed)
        taught = write_run(tmp_path / f"at{seed}", 0.92 + gain, method="at", seed=seed)
        config = taught / ".hydra" / "config.yaml"
        nets = "\n  taps:\n    flat: flatten\n  net:"
        config.write_text(config.read_text().replace("\n  net:", nets))
    board = leaderboard(tmp_path)
    (group,) = board.groups
    assert group.title == "digits, resnet8"
    assert [row.label for row in group.rows] == ["at, flat=flatten", "kd", "ce"]
    assert present(row_of(board, "at, flat=flatten").comparison).mean == pytest.approx(0.035)
    lines = [line for matrix in matrices(board) for line in matrix.rows]
    assert [line[:2] for line in lines] == [["resnet8", "90.00 ± 0.00"]] * 2


def test_excluded_runs_are_listed_and_counted(tmp_path):
    write_sweep(tmp_path, ce=[0.9])
    write_run(tmp_path / "running")
    write_run(tmp_path / "failed", status="failed", error="UserError: the loss is not finite")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "result.json").write_text("{}")
    write_run(tmp_path / "percent", 98.0)
    board = leaderboard(tmp_path)
    assert len(board.runs) == 1
    states = {item.folder.name: item.state for item in board.excluded}
    assert states == {
        **{"failed": "failed", "running": "unfinished"},
        **{"empty": "broken", "percent": "broken"},
    }
    (line,) = [text for term, text in summary(board) if term == "runs"]
    assert line == "1 finished run in 1 row, 2 broken, 1 failed, 1 unfinished"


def test_the_summary_warns_of_several_commits(tmp_path):
    write_run(tmp_path / "a", 0.9, seed=0)
    write_run(tmp_path / "b", 0.9, seed=1, git_commit="b" * 40)
    (line,) = [text for term, text in summary(leaderboard(tmp_path)) if term == "git commit"]
    assert line.startswith("aaaaaaaaaaaa, bbbbbbbbbbbb (the runs were made by different versions")


def test_a_limited_evaluation_is_never_pooled_or_compared(tmp_path):
    write_run(tmp_path / "a", 0.9, method="ce")
    limited: dict[str, Any] = {"limited": ["test"], "test/images": 512}
    write_run(tmp_path / "b", 1.0, method="ce", **limited)
    write_run(tmp_path / "c", 1.0, method="ce", seed=1, **limited)
    write_run(tmp_path / "d", 0.8, method="ce", seed=1, limited=["val"])
    board = leaderboard(tmp_path)
    assert {g.title: [(r.label, len(r.runs)) for r in g.rows] for g in board.groups} == {
        "digits, resnet8": [("ce", 1), ("ce, limited=val", 1)],
        "digits (only 512 test images), resnet8": [("ce", 2)],
    }
