"""Reports of sweeps: what is read, what is concluded, and what is written."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from commands import ROOT, Command
from omegaconf import OmegaConf
from scipy import stats
from support import hydra

from kd.config.overrides import expand_shorthand
from kd.config.record import write_record
from kd.errors import UserError
from kd.io.run_folder import RunFolder
from kd.reports.about import About, missing, summary
from kd.reports.leaderboard import build_leaderboard
from kd.reports.runs import find_runs
from kd.reports.settings import labels, read_settings
from kd.reports.statistics import (
    bootstrap_interval,
    compare,
    holm,
    paired_p,
    t_interval,
)
from kd.reports.write import write_report

CONFIG = """\
data:
  _target_: kd.data.digits.Digits
  name: {data}
  seed: ${{seed}}
  mean:
  - 0.3
teacher:
  name: {teacher}
  training:
    seed: 0
student:
  name: {student}
  net:
    _target_: kd.models.resnet_cifar.resnet_cifar
    width: {width}
method:
  name: {method}
{knobs}
mode:
  name: offline
trainer:
  max_epochs: {epochs}
  enable_progress_bar: {bar}
paths:
  run: ${{hydra:runtime.output_dir}}
seed: {seed}
"""


def write_run(folder: Path, accuracy: float | None = None, **changes) -> Path:
    """A run's folder as `kd.train` leaves it; keys with a slash go into its result."""
    about = {"method": "kd", "teacher": "resnet20", "student": "resnet8", "data": "digits"}
    about |= {"seed": 0, "width": 1.0, "epochs": 3, "bar": True, "knobs": {}, "curve": None}
    about |= {k: v for k, v in changes.items() if k in about}
    extra = {k: v for k, v in changes.items() if k not in about}
    knobs = "\n".join(f"  {k}: {v}" for k, v in about["knobs"].items()) or "  unused: 0"
    (folder / ".hydra").mkdir(parents=True)
    config = CONFIG.format(**(about | {"knobs": knobs}))
    (folder / ".hydra" / "config.yaml").write_text(config)
    overrides = [f"method={about['method']}", "trainer=cpu", f"seed={about['seed']}"]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides))
    if about["curve"] is not None:
        lines = [f"{epoch},{value}\n{epoch},\n" for epoch, value in enumerate(about["curve"])]
        (folder / "csv").mkdir()
        (folder / "csv" / "metrics.csv").write_text("epoch,val/acc\n" + "".join(lines))
    if accuracy is None and "status" not in extra:
        return folder
    taught = about["method"] != "ce"
    result = {k: about[k] for k in ("method", "student", "data", "seed")}
    result |= {"status": "completed", "mode": "offline", "config_hash": f"{folder}"}
    result |= {"teacher": about["teacher"] if taught else "none", "git_commit": "a" * 40}
    result |= {"test/acc": accuracy, "val/acc": accuracy, "student/params": 77754}
    result |= {"teacher/test/acc": 0.99 if taught else None, "fit_seconds": 10.0}
    result |= {"images_per_second": 2000.0, "teacher_forwards": 100 if taught else 0}
    result |= {"versions": {"torch": "2.6"}}
    (folder / "result.json").write_text(json.dumps(result | extra))
    return folder


def sweep(folder: Path, **accuracies: list[float]) -> Path:
    """A run for each method and seed."""
    for method, values in accuracies.items():
        for seed, value in enumerate(values):
            write_run(folder / f"{method}_s{seed}", value, method=method, seed=seed)
    return folder


def board_of(folder: Path, baseline: str | None = None):
    return build_leaderboard(find_runs([folder]), baseline, samples=200, seed=0)


def row_of(board, label: str):
    (row,) = [row for row in board.rows if row.label == label]
    return row


def text_of(folder: Path, board, **about) -> dict[str, str]:
    """The report's files as text, written into `folder`."""
    made = About("python -m kd.report", ["sweep"], 200, "today") if not about else About(**about)
    write_report(board, made, folder, figures=False)
    return {path.suffix[1:]: path.read_text() for path in folder.iterdir()}


# What is read


def test_rows_are_equal_up_to_the_seed(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"a{seed}", 0.9, knobs={"temperature": 4}, seed=seed, bar=seed == 0)
        write_run(tmp_path / f"b{seed}", 0.8, knobs={"temperature": 2.0}, seed=seed)
    write_run(tmp_path / "c", 0.7, knobs={"temperature": 4.0}, seed=2)
    board = board_of(tmp_path)
    assert {row.label: sorted(row.runs) for row in board.rows} == {
        "kd, temperature=4": [0, 1, 2],
        "kd, temperature=2": [0, 1],
    }
    assert row_of(board, "kd, temperature=4").accuracy == pytest.approx((0.9 + 0.9 + 0.7) / 3)
    assert missing(board) == [("kd, temperature=2 (digits, resnet8)", "no seed 2")]


def test_rows_are_named_by_what_differs():
    base = {"teacher": "resnet20", "student": "resnet8", "mode": "offline", "data": "digits"}
    rows = [
        base | {"method": "kd", "method.temperature": 4, "optimizer.lr": 0.1},
        base | {"method": "kd", "method.temperature": 8, "optimizer.lr": 0.1},
        base | {"method": "at", "method.beta": 1000.0, "optimizer.lr": 0.1},
        base | {"method": "ce", "teacher": "none", "optimizer.lr": 0.05},
    ]
    assert labels(rows) == [
        "kd, temperature=4, lr=0.1",
        "kd, temperature=8, lr=0.1",
        "at, lr=0.1",
        "ce, lr=0.05",
    ]
    view = {"data.view._target_": "kd.data.views.Shift", "method": "kd"}
    other = {"data.view._target_": "kd.data.views.Identity", "method": "kd"}
    assert labels([base | view, base | other]) == ["kd, view=Shift", "kd, view=Identity"]
    teachers = [base | {"method": "kd"}, base | {"method": "kd", "teacher": "vgg8"}]
    assert labels(teachers) == ["kd, teacher=resnet20", "kd, teacher=vgg8"]


@pytest.mark.parametrize("status", ["untested", "pruned"])
def test_trials_of_a_search_are_set_aside(status, tmp_path):
    write_run(tmp_path / "run", 0.9)
    write_run(tmp_path / "trial_0001", 0.9, status=status)
    (aside,) = find_runs([tmp_path]).unfinished
    assert (aside.state, aside.folder.name) == ("set aside", "trial_0001")


@pytest.mark.parametrize("content", [b"a: [", b"text", b"\xff"])
def test_a_damaged_command_line_is_named(content, tmp_path):
    for name, accuracy in (("finished", 0.9), ("running", None)):
        write_run(tmp_path / name, accuracy)
        (RunFolder(tmp_path / name).overrides).write_bytes(content)
    broken, running = find_runs([tmp_path]).unfinished
    assert (broken.state, running.state) == ("broken", "running")
    for found in (broken, running):
        assert re.search("overrides.yaml is no|can't decode", found.why)


def test_long_overrides_are_read_whole(tmp_path):
    long = "method.taps=[" + ", ".join(f"stage{n}" for n in range(40)) + "]"
    write_run(tmp_path, 0.9)
    write_record(tmp_path, OmegaConf.create(), hydra("seed=1", long))
    (found,) = find_runs([tmp_path]).runs
    assert found.overrides == ("seed=1", long)


def test_what_numbers_do_not_depend_on_is_not_read():
    text = CONFIG.format(
        **{"data": "d", "teacher": "t", "student": "s", "width": 1, "method": "kd", "seed": 3},
        **{"knobs": "  alpha: 0.5", "epochs": 2, "bar": True},
    )
    settings = read_settings(text, teacherless=False)
    assert settings["method.alpha"] == 0.5
    assert settings["data.seed"] == "${seed}"
    assert settings["data.mean"] == "[0.3]"
    assert settings["teacher.training.seed"] == 0
    assert not {"seed", "paths.run", "trainer.enable_progress_bar"} & settings.keys()
    assert "teacher.training.seed" not in read_settings(text, teacherless=True)


def test_labels_alone_are_one_row_whatever_the_teacher(tmp_path):
    write_run(tmp_path / "a", 0.9, method="ce", teacher="resnet20", seed=0)
    write_run(tmp_path / "b", 0.8, method="ce", teacher="resnet56", seed=1)
    (row,) = board_of(tmp_path).rows
    assert sorted(row.runs) == [0, 1]


def test_another_student_or_data_is_another_group(tmp_path):
    write_run(tmp_path / "a", 0.9, method="ce")
    write_run(tmp_path / "b", 0.8, method="ce", width=0.5)
    write_run(tmp_path / "c", 0.7, method="ce", data="mnist")
    titles = {group.title for group in board_of(tmp_path).groups}
    assert titles == {
        "digits, resnet8, width=1",
        "digits, resnet8, width=0.5",
        "mnist, resnet8, width=1",
    }


def test_what_has_no_number_is_named_and_not_believed(tmp_path):
    sweep(tmp_path, ce=[0.9])
    write_run(tmp_path / "running")
    write_run(tmp_path / "failed", status="failed", error="UserError: the loss is not finite")
    for name, text in {
        "half": '{"status": "comp',
        "list": "[1]",
        "empty": "{}",
        "percent": json.dumps({"status": "completed", "test/acc": 98.0}),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    write_run(tmp_path / "much", 98.0)
    write_run(tmp_path / "nan", float("nan"))
    board = board_of(tmp_path)
    assert len(board.runs) == 1
    why = {item.folder.name: (item.state, item.why) for item in board.unfinished}
    assert why["failed"] == ("failed", "UserError: the loss is not finite")
    assert why["running"][0] == "running"
    assert "method=kd" in why["running"][1]
    broken = {name for name, (state, _) in why.items() if state == "broken"}
    assert broken == {"half", "list", "empty", "percent", "much", "nan"}
    assert "98.0 is no share" in why["much"][1]
    (line,) = [text for word, text in summary(board) if word == "runs"]
    assert line == "1 finished run in 1 row, 6 broken, 1 failed, 1 running"


def test_of_the_same_run_twice_the_later_counts(tmp_path):
    first, second = write_run(tmp_path / "a", 0.8), write_run(tmp_path / "b", 0.9)
    os.utime(first / "result.json", (1, 1))
    board = board_of(tmp_path)
    assert [row.accuracy for row in board.rows] == [0.9]
    assert [(item.state, item.folder) for item in board.unfinished] == [("set aside", first)]
    (second / ".hydra" / "config.yaml").unlink()
    (first / ".hydra" / "config.yaml").unlink()
    (item,) = board_of(tmp_path).unfinished
    assert "configured otherwise" in item.why


def test_teachers_own_runs_are_left_out(tmp_path):
    sweep(tmp_path, ce=[0.9])
    write_run(tmp_path / "teachers" / "resnet20-digits-1", 0.99, method="ce", student="resnet20")
    board = board_of(tmp_path)
    assert (len(board.runs), board.teachers) == (1, 1)


# What is concluded


def test_intervals_and_p_values_are_scipys():
    ours, base = [0.91, 0.92, 0.90, 0.94, 0.93], [0.90, 0.89, 0.91, 0.91, 0.90]
    differences = np.subtract(ours, base)
    assert paired_p(differences) == pytest.approx(stats.ttest_rel(ours, base).pvalue)
    expected = stats.t.interval(0.95, 4, loc=np.mean(ours), scale=stats.sem(ours))
    assert t_interval(ours) == pytest.approx(expected)
    assert t_interval([0.9]) is None
    assert t_interval([0.9, 0.9]) is None
    assert paired_p([0.1]) is None


def test_equal_differences_are_not_certain_of_anything():
    assert paired_p([0.0, 0.0, 0.0]) == 1
    assert paired_p([0.25, 0.25]) == 0.5
    assert paired_p([1 / 360] * 5) == 1 / 16
    (paired,) = compare([[1 / 360] * 5], samples=10, seed=0)
    assert paired.verdict == "cannot distinguish"


def test_the_bootstrap_is_that_of_the_mean():
    values = [0.0, 1.0, 2.0]
    # All 27 samples of three values: a mean of 0 and of 2 has probability 1/27 each, more than
    # 2.5 %, so that the interval reaches from end to end.
    assert bootstrap_interval(values, samples=20000, seed=0) == (0, 2)
    # Of 0 and 1, four times each, the mean's number of ones is binomial(8, 1/2): P(≤ 0) = 0.004,
    # P(≤ 1) = 0.035.
    assert bootstrap_interval([0.0, 1.0] * 4, samples=20000, seed=0) == (1 / 8, 7 / 8)
    assert bootstrap_interval([0.3], samples=10, seed=0) is None
    assert bootstrap_interval(values, 50, seed=1) == bootstrap_interval(values, 50, seed=1)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; the third is 0.06, and so is the fourth.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


def test_rows_are_judged_against_labels_alone_over_common_seeds(tmp_path):
    sweep(tmp_path, kd=[0.95, 0.96, 0.97], ce=[0.90, 0.905, 0.92, 0.93], at=[0.80, 0.82, 0.83])
    write_run(tmp_path / "single", 0.99, method="dkd", seed=0)
    write_run(tmp_path / "apart", 0.5, method="sp", seed=9)
    board = board_of(tmp_path)
    (group,) = board.groups
    assert [row.label for row in group.rows] == ["dkd", "kd", "ce", "at", "sp"]
    assert group.baseline.label == "ce"
    kd, at = row_of(board, "kd").against, row_of(board, "at").against
    assert kd.seeds == 3
    assert kd.mean == pytest.approx((0.05 + 0.055 + 0.05) / 3)
    p_kd = stats.ttest_rel([0.95, 0.96, 0.97], [0.90, 0.905, 0.92]).pvalue
    p_at = stats.ttest_rel([0.80, 0.82, 0.83], [0.90, 0.905, 0.92]).pvalue
    # `dkd` shares one seed and `sp` none: neither counts among the comparisons.
    assert kd.p_holm == pytest.approx(2 * p_kd)
    assert at.p_holm == pytest.approx(max(2 * p_kd, p_at))
    assert (kd.verdict, at.verdict) == ("better", "worse")
    assert row_of(board, "dkd").against.verdict is None
    assert row_of(board, "sp").against is None
    ce = (0.90 + 0.905 + 0.92) / 3  # over the seeds both have
    assert row_of(board, "kd").gap == pytest.approx((0.96 - ce) / (0.99 - ce))


def test_a_baseline_can_be_chosen(tmp_path):
    sweep(tmp_path, ce=[0.9, 0.91], at=[0.8, 0.82])
    for seed in (0, 1):
        write_run(tmp_path / f"t4{seed}", 0.9, seed=seed, knobs={"temperature": 4.0})
        write_run(tmp_path / f"t8{seed}", 0.9, seed=seed, knobs={"temperature": 8.0})
    assert board_of(tmp_path, "at").groups[0].baseline.label == "at"
    chosen = board_of(tmp_path, "method=kd,temperature=4").groups[0].baseline
    assert chosen.label == "kd, temperature=4"
    assert board_of(tmp_path, "method.temperature=8.0").groups[0].baseline.label.endswith("=8")
    with pytest.raises(UserError, match="baseline=kdd: no row is that; there are: at; ce; kd, te"):
        board_of(tmp_path, "kdd")
    with pytest.raises(UserError, match=r"baseline=kd: several rows .*temperature=4; kd, temp"):
        board_of(tmp_path, "kd")


def test_without_labels_alone_the_first_row_is_the_baseline(tmp_path):
    for age, method in enumerate(["at", "kd"]):
        folder = write_run(tmp_path / method, 0.9, method=method)
        os.utime(folder / "result.json", (age, age))
    (group,) = board_of(tmp_path).groups
    assert group.baseline.label == "at"
    assert [row.gap for row in group.rows] == [None, None]


@pytest.mark.parametrize("images", [None, 360], ids=["exact", "360 images"])
def test_chance_makes_no_winner(images):
    """20 methods that are one distribution, five seeds: all beside the same baseline."""
    draw = np.random.default_rng(0)
    without = 0
    for _ in range(200):
        accuracy = draw.normal(0.9, 0.01, size=(21, 5))
        if images:
            accuracy = np.float32(np.round(accuracy * images) / images).astype(float)
        found = compare(list(accuracy[1:] - accuracy[0]), samples=2, seed=0)
        without += all(paired.verdict == "cannot distinguish" for paired in found)
    assert without >= 0.93 * 200, without


def test_a_real_difference_is_found():
    draw = np.random.default_rng(1)
    differences = [list(draw.normal(0.03 * (i == 0), 0.002, size=5)) for i in range(20)]
    found = compare(differences, samples=50, seed=0)
    assert found[0].verdict == "better"
    assert found[0].interval[0] > 0.02


# What is written


def test_the_report_in_all_three_forms(tmp_path):
    sweep(tmp_path / "runs", kd=[0.95, 0.96, 0.97], ce=[0.90, 0.905, 0.92])
    text = text_of(tmp_path / "report", board_of(tmp_path / "runs"))
    assert text.keys() == {"md", "csv", "html"}
    kd, ce = csv.DictReader(text["csv"].splitlines())
    assert (kd["row"], kd["verdict"], ce["verdict"]) == ("kd", "better", "baseline")
    assert float(kd["difference"]) == pytest.approx(0.155 / 3)
    assert float(kd["test/acc sd"]) == pytest.approx(0.01)
    assert kd["seeds"] == "0 1 2"
    assert "| kd | 3 | 96.00 ± 1.00 | +5.17" in text["md"]
    for form in ("md", "html"):
        for word in (
            "96.00 ± 1.00",
            "better",
            "trainer=cpu",
            "Holm",
            "torch 2.6",
            "teacher resnet20 99.00",
        ):
            assert word in text[form], (form, word)


def test_one_seed_gives_no_verdict_and_says_so(tmp_path):
    sweep(tmp_path / "runs", kd=[0.95], ce=[0.90])
    text = text_of(tmp_path / "report", board_of(tmp_path / "runs"))
    assert "one seed, no verdict" in text["html"]
    assert "| kd | 1 | 95.00 | +5.00 | – | one seed, no verdict |" in text["md"]


def test_accuracy_at_the_last_epoch_where_it_is_known(tmp_path):
    write_run(tmp_path / "runs" / "a", 0.9, **{"test/acc_last": 0.875})
    text = text_of(tmp_path / "report", board_of(tmp_path / "runs"))
    assert "at the last epoch" in text["md"]
    assert "87.50" in text["html"]


def test_a_name_is_text_and_nothing_else(tmp_path):
    name = '<script>alert("x")</script>'
    write_run(tmp_path / "runs" / "a", 0.9, method="x").joinpath("result.json")
    path = tmp_path / "runs" / "a" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"method": name, "student": "a|b"}))
    write_run(tmp_path / "runs" / "b", status="failed", error=name)
    text = text_of(tmp_path / "report", board_of(tmp_path / "runs"))
    assert name not in text["html"]
    assert "<script>" not in text["md"]
    assert "a\\|b" in text["md"]


def test_the_page_needs_nothing_else(tmp_path):
    sweep(tmp_path / "runs", kd=[0.95, 0.96], ce=[0.90, 0.91])
    html = text_of(tmp_path / "report", board_of(tmp_path / "runs"))["html"]
    assert not re.search(r'(src|href)="|@import|url\((?!#)|https?://(?!www\.w3\.org)', html)


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    sweep(tmp_path / "runs", kd=[0.95])
    board, output = board_of(tmp_path / "runs"), tmp_path / "report"
    before = text_of(output, board)
    monkeypatch.setattr("kd.reports.write.page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        text_of(output, board)
    assert {path.suffix[1:]: path.read_text() for path in output.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "report"}
    monkeypatch.undo()
    assert text_of(output, board) == before  # again, over the first
    with pytest.raises(UserError, match="something else is there"):
        text_of(tmp_path / "runs", board)


def test_figures(tmp_path):
    pytest.importorskip("matplotlib")
    draw = np.random.default_rng(0)
    for student, size in {"resnet8": 77754, "resnet20": 272186}.items():
        for seed in (0, 1):
            for method, t, a in [("ce", 0, 0), *(("kd", t, a) for t in (2, 4) for a in (0.5, 0.9))]:
                knobs = {"temperature": t, "alpha": a} if method == "kd" else {}
                curve, classes = draw.uniform(0.5, 1, 5), list(draw.uniform(0, 1, 40))
                write_run(
                    tmp_path / "runs" / f"{student}{method}{t}{a}{seed}",
                    draw.uniform(0.8, 0.9),
                    **{"method": method, "knobs": knobs, "student": student, "seed": seed},
                    **{"curve": curve, "student/params": size, "test/acc_per_class": classes},
                )
    report = tmp_path / "report"
    board = board_of(tmp_path / "runs")
    write_report(board, About("command", ["runs"], 200, "today"), report)
    names = {path.stem for path in (report / "figures").glob("*.svg")}
    assert names == {
        "accuracy-student-params-digits",
        *(f"difference-digits-{s}" for s in ("resnet8", "resnet20")),
        *(f"temperature-and-alpha-kd-digits-{s}" for s in ("resnet8", "resnet20")),
        *(f"curves-digits-{s}" for s in ("resnet8", "resnet20")),
        *(f"classes-digits-{s}" for s in ("resnet8", "resnet20")),
    }
    page = (report / "report.html").read_text()
    for name in names:
        assert f"figures/{name}.png" in (report / "report.md").read_text()
        assert (report / "figures" / f"{name}.png").stat().st_size > 1000
        assert (report / "figures" / f"{name}-dark.png").stat().st_size > 1000
        svg = (report / "figures" / f"{name}.svg").read_text()
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "prefers-color-scheme" in svg
        assert "var(--ink)" in svg
    cell = row_of_group(board, "digits, resnet8", "kd, temperature=4, alpha=0.9").mean("val/acc")
    assert f">{100 * cell:.2f}<" in page
    assert page.count("<svg") == len(names)


def row_of_group(board, title: str, label: str):
    (group,) = [group for group in board.groups if group.title == title]
    (row,) = [row for row in group.rows if row.label == label]
    return row


def test_the_front_is_what_none_beats():
    pytest.importorskip("matplotlib")
    from kd.reports.figures.pareto import Point, front

    points = [Point(1, 50, "a"), Point(2, 70, "b"), Point(2, 60, "c"), Point(3, 65, "d")]
    points.append(Point(4, 80, "e"))
    assert [p.label for p in front(points, more_is_better=False)] == ["a", "b", "e"]
    assert [p.label for p in front(points, more_is_better=True)] == ["e"]


def test_curves_are_read_by_epoch(tmp_path):
    pytest.importorskip("matplotlib")
    from kd.reports.figures.curves import epochs

    write_run(tmp_path / "a", 0.9, seed=0, curve=[0.5, 0.6, 0.7])
    write_run(tmp_path / "b", 0.9, seed=1, curve=[0.4, 0.8])
    (row,) = board_of(tmp_path).rows
    assert epochs(row) == {1: [0.5, 0.4], 2: [0.6, 0.8]}


def test_without_matplotlib_the_report_has_no_figures(tmp_path, monkeypatch, caplog):
    sweep(tmp_path / "runs", kd=[0.95])
    monkeypatch.setattr("kd.reports.write.find_spec", lambda name: None)
    about = About("command", ["runs"], 200, "today")
    write_report(board_of(tmp_path / "runs"), about, tmp_path / "report")
    assert not (tmp_path / "report" / "figures").exists()
    assert "pip install -e '.[plots]'" in caplog.text


# The command


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    return Command("kd.report", *arguments).ended()


def test_the_command(tmp_path):
    sweep(tmp_path, kd=[0.95, 0.96, 0.97], ce=[0.90, 0.905, 0.92])
    for _ in range(2):  # again, beside its first report
        answer = report(f"sweep={tmp_path}", "baseline=method=ce", "figures=false")
        assert answer.returncode == 0, answer.stderr
        assert "better" in answer.stdout
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"python -m kd.report sweep={tmp_path} baseline=method=ce figures=false" in page


def test_mistakes_of_the_command_are_named(tmp_path):
    (tmp_path / "sweep").mkdir()
    for arguments, message in {
        ("figures=false",): r"error: which runs\? sweep=FOLDER, or folders=",
        (f"sweep={tmp_path}/swep",): f"no folder {tmp_path}/swep; .* did you mean 'sweep'?",
        (f"folders=[{tmp_path}/sweep]",): f"error: no run below {tmp_path}/sweep",
    }.items():
        answer = report(*arguments)
        assert answer.returncode == 1
        assert re.search(message, answer.stderr), answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_baseline_is_written_for_hydra():
    assert (
        expand_shorthand("baseline=method=kd,temperature=4") == "baseline='method=kd,temperature=4'"
    )
    assert expand_shorthand("baseline=ce") == "baseline=ce"
    assert expand_shorthand("sweep=x", {"sweep": "folder"}) == "folder=x"


def test_the_command_line_of_the_report_loads_nothing_heavy():
    heavy = "('torch', 'lightning', 'matplotlib', 'scipy', 'numpy', 'jinja2')"
    code = f"import sys, kd.report; print([m for m in {heavy} if m in sys.modules])"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"
