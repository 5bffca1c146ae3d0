"""Verdicts beside control arms, by hand and by simulation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
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


def board_of_runs(*arms: tuple[Mapping[str, object], np.ndarray]) -> Leaderboard:
    """Rows by their settings: five seeds each."""
    runs = [
        Run(Path(f"{number}_{seed}"), {"test/acc": float(value), "seed": seed},
            {**ROLES, "method": "kd", **settings}, (), float(number))
        for number, (settings, values) in enumerate(arms)
        for seed, value in enumerate(values)
    ]  # fmt: skip
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


def against(board: Leaderboard, **settings: object) -> str | None:
    """The words of the one row of a method, `kd` if none is named, with these settings."""
    wanted = {"method": "kd", **settings}
    rows = [row for row in board.rows if row.control is None]
    (row,) = [row for row in rows if wanted.items() <= row.settings.items()]
    return row.against_controls


CE = 0.9 + NOISE
CLEAR = NOISE[::-1] / 3
LABELS = ({"method": "ce", "teacher": "none"}, CE)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("key", ["teacher", "optimizer.lr", "data.views", "teacher.net.width"])
def test_arms_of_other_settings_are_those_of_other_rows(key, order):
    """The gain of `a` is that of its shuffled teacher; the one of `b` is not."""
    methods = [({key: name}, CE + 0.02 + CLEAR) for name in "ab"]
    gains = {"a": 0.02 - CLEAR, "b": -0.02 - CLEAR}
    arms = [({key: name, "control": "shuffled"}, CE + gain) for name, gain in gains.items()]
    board = board_of_runs(LABELS, *methods, *arms[::order])
    assert against(board, **{key: "a"}) == "better than labels alone, not than shuffled"
    assert against(board, **{key: "b"}) == "better than labels and controls"


def test_a_control_is_beaten_only_with_all_of_its_arms():
    """Teachers like the student, of two trainings: both are arms of the same method."""
    arms = [
        ({"teacher": "resnet8", "control": "self", "teacher.training.seed": seed}, CE + gain)
        for seed, gain in ((0, 0.02 - CLEAR), (1, -0.02 - CLEAR))
    ]
    for order in (arms, arms[::-1]):
        board = board_of_runs(LABELS, ({}, CE + 0.02 + CLEAR), *order)
        assert against(board) == "better than labels alone, not than self"


def test_arms_may_differ_in_what_the_control_changes():
    own = {"teacher.net.width": 1, "teacher.checkpoint": "given", "teacher.training.seed": 0}
    bare = own | {"teacher.checkpoint": "null", "control": "untrained"}
    views = {"data.second.policy": "strong", "method.temperature": 4}
    board = board_of_runs(
        LABELS,
        (own | views, CE + 0.03 + CLEAR),
        (own | {"method": "ce", "control": "smoothing"}, CE + 0.01 - CLEAR),
        (bare | views, CE - 0.01 - CLEAR),
        (views | {"teacher": "resnet8", "control": "self"}, CE + 0.01 - 2 * CLEAR),
    )
    assert against(board) == "better than labels, smoothing, self and untrained"


def test_labels_with_the_optimizer_of_the_row_must_be_beaten_as_well():
    adam = {"optimizer.name": "adam"}
    board = board_of_runs(
        LABELS, (LABELS[0] | adam, (CE + 0.03 - CLEAR)[:4]), (adam, CE + 0.02 + CLEAR),
        (adam | {"control": "shuffled"}, CE - CLEAR),
    )  # fmt: skip
    assert against(board, method="kd") == CANNOT_TELL


def test_only_what_was_beaten_is_named(tmp_path):
    """The shuffled teacher is one of `kd`; `at` has no arm of its own but the smoothed labels."""
    board = board_of_runs(
        LABELS, ({}, CE + 0.02 + CLEAR), ({"control": "shuffled"}, CE - CLEAR),
        ({"method": "at"}, CE + 0.03 + CLEAR),
        ({"method": "ce", "control": "smoothing"}, CE + 0.01 - CLEAR),
    )  # fmt: skip
    assert against(board, method="at") == "better than labels and smoothing"
    assert against(board, method="kd") == "better than labels and controls"
    texts = report_texts(tmp_path / "report", board)
    assert all("better than labels and smoothing" in texts[form] for form in ("md", "html", "csv"))


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
