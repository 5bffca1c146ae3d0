"""Figures of a report: which are drawn, their files, and the numbers in them."""

from xml.etree import ElementTree

import numpy as np
import pytest
from run_folders import ABOUT, leaderboard, row_of, write_run
from support import present

from kd.reports.figures.learning_curves import curve_of
from kd.reports.figures.pareto import Point, front
from kd.reports.write import write_report


def write_grid(folder):
    """Two students, `ce` and a grid of temperatures and alphas, two seeds each."""
    draw = np.random.default_rng(0)
    methods = [("ce", 0, 0), *(("kd", t, a) for t in (2, 4) for a in (0.5, 0.9))]
    for student, size in {"resnet8": 77754, "resnet20": 272186}.items():
        for seed in (0, 1):
            for method, t, a in methods:
                knobs = {"temperature": t, "alpha": a} if method == "kd" else {}
                curve = draw.uniform(0.5, 1, 5)
                classes = [*draw.uniform(0, 1, 39), None]  # of the last one there is no test image
                write_run(
                    folder / f"{student}{method}{t}{a}{seed}",
                    draw.uniform(0.8, 0.9),
                    **{"method": method, "knobs": knobs, "student": student, "seed": seed},
                    **{"curve": curve, "student/params": size, "test/acc_per_class": classes},
                )


def test_all_kinds_of_figures_are_drawn(tmp_path):
    write_grid(tmp_path / "runs")
    report, board = tmp_path / "report", leaderboard(tmp_path / "runs")
    write_report(board, ABOUT, report)
    names = {path.stem for path in (report / "figures").glob("*.svg")}
    kinds = ("difference-digits", "temperature-and-alpha-kd-digits", "curves-digits")
    assert names == {
        "accuracy-student-params-digits",
        *(f"{k}-{s}" for k in (*kinds, "classes-digits") for s in ("resnet8", "resnet20")),
    }
    page = (report / "report.html").read_text()
    for name in names:
        assert f"figures/{name}.png" in (report / "report.md").read_text()
        assert (report / "figures" / f"{name}.png").stat().st_size > 1000
        assert (report / "figures" / f"{name}-dark.png").stat().st_size > 1000
        svg = (report / "figures" / f"{name}.svg").read_text()
        assert ElementTree.fromstring(svg).tag.endswith("svg")
    cell = row_of(board, "kd, temperature=4, alpha=0.9", "digits, resnet8").mean("val/acc")
    assert f">{100 * present(cell):.2f}<" in page
    assert page.count("<svg") == len(names)


@pytest.mark.parametrize(("more_is_better", "expected"), [(False, ["a", "b", "e"]), (True, ["e"])])
def test_the_pareto_front_has_no_row_that_another_beats(more_is_better, expected):
    points = [Point(1, 50, "a"), Point(2, 70, "b"), Point(2, 60, "c"), Point(3, 65, "d")]
    points.append(Point(4, 80, "e"))
    assert [p.label for p in front(points, more_is_better)] == expected


def test_curves_end_at_the_last_epoch_of_all_seeds(tmp_path):
    write_run(tmp_path / "a", 0.9, seed=0, curve=[0.5, 0.6, 0.7])
    write_run(tmp_path / "b", 0.9, seed=1, curve=[0.4, 0.8])
    (row,) = leaderboard(tmp_path).rows
    assert curve_of(row) == {1: [0.5, 0.4], 2: [0.6, 0.8]}
