"""The reproducibility checklist: what the runs answer, and what stays open."""

from run_folders import ABOUT, TABLES, leaderboard, write_run

from kd.reports.checklist import bounds
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
