"""The reproducibility checklist: what the runs answer, and what stays open."""

import json

import pytest
from run_folders import ABOUT, TABLES, leaderboard, write_run, write_sweep

from kd.io.checksums import write_json
from kd.reports.checklist import answers, bounds, checklist
from kd.reports.write import Forms, write_report


def write_grid(folder):
    for t in (8, 1, 2):
        for seed in (0, 1):
            write_run(
                folder / f"{t}{seed}", 0.9, seed=seed, knobs={"temperature": t},
                **{"train/images": 1294, "val/images": 144, "test/images": 359, "threads": 2},
                **{"fit_seconds": 1800.0, "teacher/seconds": 360.0 if t == 8 else 0.0},
            )  # fmt: skip
    write_run(folder / "ce", 0.88, method="ce", seed=0)
    write_run(folder / "bad", status="failed", error="x")


def texts(folder):
    """The answers of a checklist, by question."""
    return {item.question: item.text for item in answers(leaderboard(folder), ABOUT)}


def write_trials(folder, count=3, **changes):
    """Trials of `kd`, of which the last was pruned before it had recorded any time."""
    for number in range(count):
        last = number == count - 1
        write_run(
            folder / f"trial_{number:04d}", 0.5, status="pruned" if last else "untested",
            knobs={"temperature": float(number + 1), "depth": "deep" if last else "flat"},
            **{"fit_seconds": None if last else 1800.0, "test/acc": None}, **changes,
        )  # fmt: skip


def record_space(folder):
    parts = {
        "method.temperature": {"low": 1, "high": 10, "log": False, "step": 1},
        "method.alpha": {"low": 0.0, "high": 1.0, "log": False, "step": 0.25},
        "optimizer.lr": {"low": 0.005, "high": 0.5, "log": True, "step": None},
        "scheduler": {"choices": ["cosine", "step"]},
    }
    space = {key: json.dumps({"name": "…", "attributes": part}) for key, part in parts.items()}
    write_json(folder / "study.json", {"space": space})


def test_runs_without_a_result_are_missing(tmp_path):
    write_sweep(tmp_path, ce=[0.9, 0.91])
    assert texts(tmp_path)["Missing results"] == "none"
    write_run(tmp_path / "kd0")
    write_run(tmp_path / "kd1", seed=1, status="failed", error="x")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "result.json").write_text("{}")
    found = texts(tmp_path)
    assert found["Missing results"] == "broken: bad; unfinished: kd seed 0; failed: kd seed 1"
    assert found["Runs"] == "2 completed in 1 row, 1 broken, 1 unfinished, 1 failed"


def test_without_a_finished_run_its_items_stay_open(tmp_path):
    write_trials(tmp_path / "kd")
    board = leaderboard(tmp_path)
    open_items = {item.question for item in answers(board, ABOUT) if not item.text}
    assert open_items >= {
        *("Runs", "Seeds", "Missing results", "Settings tried", "Selection rule", "Tests"),
        *("Data", "Sizes", "Accelerator, devices and precision", "Versions", "Code"),
    }
    assert "- [ ] **Settings tried** (not recorded; fill in)" in checklist(board, ABOUT)


@pytest.mark.parametrize("recorded", [True, False])
def test_searches_are_an_item_and_their_hours_are_counted(tmp_path, recorded):
    write_sweep(tmp_path / "runs", kd=[0.9])
    write_trials(tmp_path / "kd")
    write_trials(tmp_path / "dkd", count=1, method="dkd")
    write_run(tmp_path / "kd" / "trial_0003", status="failed", error="x")
    if recorded:
        record_space(tmp_path / "kd")
    found = texts(tmp_path)
    space = (
        "method.temperature 1 to 10; method.alpha 0 to 1 in steps of 0.25; "
        "optimizer.lr 0.005 to 0.5 (logarithmic); scheduler of cosine, step"
        if recorded
        else "method.depth of deep, flat; method.temperature 1 to 3"
    )
    assert found["Search"] == f"dkd: 1 trial; kd: 3 trials, 1 failed; {space}"
    assert found["Missing results"] == "none"
    assert found["Settings tried"] == "none was varied between rows"
    assert (
        "; 1.00 hours of 2 trials of searches; 2 more without a record of time" in found["Compute"]
    )
    assert found["Runs"] == "1 completed in 1 row, 1 failed, 4 trials of searches"


def test_a_damaged_record_of_a_search_is_no_record(tmp_path):
    write_trials(tmp_path / "kd")
    write_json(tmp_path / "kd" / "study.json", {"space": {"method.alpha": "{}"}})
    assert texts(tmp_path)["Search"].endswith("temperature 1 to 3")
    (tmp_path / "kd" / "study.json").write_text("[")
    assert texts(tmp_path)["Search"].endswith("temperature 1 to 3")


def test_the_checklist_is_filled(tmp_path):
    write_grid(tmp_path / "runs")
    board = leaderboard(tmp_path / "runs")
    assert bounds(board) == ["kd: method.temperature = 1, 2, 8"]
    write_report(board, ABOUT, tmp_path / "report", Forms(figures=False, checklist=True))
    text = (tmp_path / "report" / "checklist.md").read_text()
    for words in (
        "- [x] **Runs** 7 completed in 4 rows, 1 failed",
        "- [x] **Seeds** digits, resnet8: 0, 1",
        "no seed 1",
        "1294 training, 144 validation, 359 test",
        "3.00 hours of training the students, 0.20 hours of teachers",  # ce has 10 seconds
        "2 CPU threads",
        "torch 2.6",
        "- [ ] **Model of the processor** (not recorded; fill in)",
        "| digits, resnet8 | kd, temperature=8 | 2 | 90.00 ± 0.00 | 90.00 ± 0.00 |",
    ):
        assert words in text, words
    write_report(board, ABOUT, tmp_path / "report", TABLES)
    assert not (tmp_path / "report" / "checklist.md").exists()
