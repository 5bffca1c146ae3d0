"""Verdicts beside control arms, by hand and by simulation."""

from pathlib import Path

import numpy as np
from run_folders import TABLES, report_texts

from kd.reports.controls import CANNOT_TELL
from kd.reports.find import Found
from kd.reports.leaderboard import Leaderboard, build_leaderboard
from kd.reports.runs import Run

ROLES = {"teacher": "resnet20", "student": "resnet8", "mode": "offline", "data": "digits"}


def board_of(**accuracies) -> Leaderboard:
    """Rows by name: a method, a control arm of `kd`, or `ce`."""
    runs = []
    for number, (name, values) in enumerate(accuracies.items()):
        control = name if name not in ("kd", "at") else None
        method = "ce" if name in ("ce", "smoothing") else "kd" if control else name
        settings = {**ROLES, "method": method} | ({"control": control} if control else {})
        for seed, value in enumerate(values):
            result = {"test/acc": float(value), "seed": seed, "teacher": "resnet20"}
            runs.append(Run(Path(f"{name}{seed}"), result, settings, (), float(number)))
    return build_leaderboard(Found(runs), None, samples=10, seed=0)


def verdicts(board: Leaderboard) -> dict[str, str | None]:
    return {str(row.control or row.settings["method"]): row.against_controls for row in board.rows}


NOISE = np.array([0.001, -0.001, 0.0005, 0.0, -0.0005])


def test_a_method_is_compared_with_labels_and_its_own_controls(tmp_path):
    ce = 0.9 + NOISE
    board = board_of(
        ce=ce, kd=ce + 0.03 + NOISE[::-1], at=ce + 0.01 + NOISE[::-1],
        smoothing=ce + 0.02 + NOISE[::-1] / 3, shuffled=ce - 0.02 + NOISE / 2,
    )  # fmt: skip
    assert verdicts(board) == {
        "ce": None,
        "kd": "better than labels and controls",
        "at": "better than labels alone, not than smoothing",  # the other controls are those of kd
        "smoothing": "better than labels alone",
        "shuffled": "worse than labels alone",
    }
    assert board.groups[0].baseline.control == "ce"
    texts = report_texts(tmp_path / "report", board, TABLES)
    for form in ("md", "html", "csv"):
        assert "better than labels and controls" in texts[form]


def test_a_method_that_does_not_beat_a_shuffled_teacher(tmp_path):
    ce = 0.9 + NOISE
    board = board_of(ce=ce, kd=ce + 0.02 + NOISE[::-1], shuffled=ce + 0.02 - NOISE[::-1])
    assert verdicts(board)["kd"] == "better than labels alone, not than shuffled"
    board = board_of(ce=ce, kd=ce + np.array([0.01, -0.01, 0.02, -0.02, 0]), shuffled=ce)
    assert verdicts(board)["kd"] == CANNOT_TELL


def test_without_controls_there_is_no_column(tmp_path):
    board = board_of(kd=[0.9, 0.91], at=[0.8, 0.82])
    assert set(verdicts(board).values()) == {None}
    assert "| against controls" not in report_texts(tmp_path / "report", board)["md"]


def test_a_shuffled_teacher_without_effect_is_rarely_called_better():
    generator, better = np.random.default_rng(0), 0
    for _ in range(300):
        ce, kd, shuffled = generator.normal(0.9, 0.004, size=(3, 5))
        found = verdicts(board_of(ce=ce, kd=kd, shuffled=shuffled))["shuffled"]
        better += str(found).startswith("better")
    assert better / 300 <= 0.05
