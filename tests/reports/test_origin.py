"""Pooling of seeds: the same settings on the same data, with teachers of one recipe."""

from run_folders import leaderboard, report_texts, write_run


def record(recipe: str | None, data: str | None = "d1", weights: str = "w", **more) -> dict:
    """Keys of result.json that identify what a run was made with."""
    return {
        **{"recipe_hash": recipe, "data/fingerprint": data, "teacher/weights_hash": weights},
        **{"teacher/recipe_hash": None, "student/start_hash": None, "changes": []},
        **more,
    }


def seeds(board) -> list[list[int]]:
    return sorted(sorted(row.runs) for row in board.rows)


def test_seeds_on_replaced_data_are_not_pooled(tmp_path):
    write_run(tmp_path / "a", 0.9, seed=0, **record("r1"))
    write_run(tmp_path / "b", 0.8, seed=1, **record("r2", data="d2"))
    board = leaderboard(tmp_path)
    assert seeds(board) == [[0], [1]]
    assert {group.title for group in board.groups} == {
        "digits, resnet8, fingerprint=d1",
        "digits, resnet8, fingerprint=d2",
    }


def test_seeds_under_a_swapped_teacher_are_not_pooled(tmp_path):
    write_run(tmp_path / "a", 0.9, seed=0, **record("r1", weights="w1"))
    write_run(tmp_path / "b", 0.8, seed=1, **record("r2", weights="w2"))
    board = leaderboard(tmp_path)
    assert {row.label for row in board.rows} == {"kd, weights=w1", "kd, weights=w2"}


def test_teachers_of_one_recipe_are_pooled_and_said(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), 0.9, seed=seed, **record("r1", weights=f"w{seed}"))
    board = leaderboard(tmp_path)
    assert seeds(board) == [[0, 1]]
    page = report_texts(tmp_path / "report", board)["md"]
    assert "several teachers of one recipe, with different weights, in: kd (2)" in page


def test_a_run_resumed_in_another_way_is_not_pooled(tmp_path):
    change = {"epoch": 2, "step": 10, "settings": {"trainer.max_epochs": [1, 3]}}
    write_run(tmp_path / "a", 0.9, seed=0, **record("r1"))
    write_run(tmp_path / "b", 0.8, seed=1, **record("r2", changes=[change]))
    board = leaderboard(tmp_path)
    assert seeds(board) == [[0], [1]]
    assert any("resumed_with" in row.label for row in board.rows)


def test_runs_on_unrecognised_data_are_not_pooled(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"run{seed}", 0.9, seed=seed, **record(None, data=None))
    board = leaderboard(tmp_path)
    assert seeds(board) == [[0], [1]]
    assert "kd, fingerprint=unrecognised (run1)" in {row.label for row in board.rows}


def test_runs_of_earlier_versions_are_pooled_by_their_settings(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), 0.9, seed=seed)
    assert seeds(leaderboard(tmp_path)) == [[0, 1]]
