"""Reports over runs of several tasks: each is judged by its figure, and compared with its own."""

import csv
import io
import re

import pytest
from run_folders import leaderboard, report_texts, row_of, write_run

from kd.reports.write import Forms

DETECTOR = {"task": "detection", "data": "digits_scenes", "student": "tiny_detector"}


def detector(folder, figure: float, **changes):
    figures = {
        "test/map": figure,
        "val/map": figure - 0.01,
        "teacher/test/map": 0.6 if changes["method"] != "ce" else None,
    }
    return write_run(folder, None, status="completed", **DETECTOR, **figures, **changes)


@pytest.fixture
def board(tmp_path):
    for seed in (0, 1):
        detector(tmp_path / f"d{seed}", 0.30, method="ce", seed=seed)
        detector(tmp_path / f"e{seed}", 0.42, method="det_kd", seed=seed)
        write_run(tmp_path / f"i{seed}", 0.9, seed=seed)
    return leaderboard(tmp_path)


def test_detectors_are_judged_by_map(board):
    assert {group.title: group.figure.words for group in board.groups} == {
        "digits, resnet8": "accuracy",
        "digits_scenes, tiny_detector": "mAP",
    }
    best = row_of(board, "det_kd")
    assert best.score == pytest.approx(0.42)
    assert best.comparison is not None
    assert best.comparison.mean == pytest.approx(0.12)  # against ce of the same task
    assert best.gap == pytest.approx(0.12 / 0.3)


def test_every_form_of_the_report_names_the_figures(board, tmp_path):
    texts = report_texts(tmp_path / "report", board, Forms(figures=False, latex=True))
    headings = [line for line in texts["md"].splitlines() if line.startswith("| row |")]
    for form in ("html", "md", "tex"):
        assert " or mAP" not in texts[form]
    for heading, group in zip(headings, board.groups, strict=True):
        words = group.figure.words
        assert f"| test {words} |" in heading
        assert f"| validation {words} |" in heading
        assert f">test {words}<" in texts["html"]
        assert f" & test {words} & " in texts["tex"]
    assert texts["html"].count('aria-sort="descending"') == 2
    assert re.search(r"teacher .*\| 60.00 \|", texts["md"])  # in the column of its group's figure
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    found = {row["method"]: (row["test/map"], row["test/acc"]) for row in rows}
    assert found["det_kd"] == ("0.42", "")
    assert found["kd"][0] == ""


def test_a_detector_without_map_is_broken(tmp_path):
    write_run(tmp_path / "a", 0.9, **DETECTOR)
    (item,) = leaderboard(tmp_path).excluded
    assert "has no test/map" in item.why
