"""Report files: their content, escaping of names, atomic replacement."""

import csv
import json
import re

import pytest
from run_folders import ABOUT, leaderboard, report_texts, write_run, write_sweep

from kd.errors import UserError
from kd.reports.write import write_report


def test_all_three_forms_hold_the_same_results(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95, 0.96, 0.97], ce=[0.90, 0.905, 0.92])
    text = report_texts(tmp_path / "report", leaderboard(tmp_path / "runs"))
    assert text.keys() == {"md", "csv", "html"}
    kd, ce = csv.DictReader(text["csv"].splitlines())
    assert (kd["row"], kd["verdict"], ce["verdict"]) == ("kd", "better", "baseline")
    assert float(kd["difference"]) == pytest.approx(0.155 / 3)
    assert float(kd["test/acc sd"]) == pytest.approx(0.01)
    assert kd["seeds"] == "0 1 2"
    assert "| kd | 3 | 96.00 ± 1.00 | +5.17" in text["md"]
    for form in ("md", "html"):
        for word in (
            *("96.00 ± 1.00", "better", "trainer=cpu", "Holm", "torch 2.6"),
            "teacher test accuracy: resnet20 99.00",
        ):
            assert word in text[form], (form, word)


def test_one_seed_gives_no_verdict(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95], ce=[0.90])
    text = report_texts(tmp_path / "report", leaderboard(tmp_path / "runs"))
    assert "one seed, no verdict" in text["html"]
    assert "| kd | 1 | 95.00 | +5.00 | – | one seed, no verdict |" in text["md"]


def test_the_last_epoch_has_a_column_if_recorded(tmp_path):
    write_run(tmp_path / "runs" / "a", 0.9, **{"test/acc_last": 0.875})
    text = report_texts(tmp_path / "report", leaderboard(tmp_path / "runs"))
    assert "| last epoch |" in text["md"]
    assert "87.50" in text["html"]


def test_names_are_escaped(tmp_path):
    name = '<script>alert("x")</script>'
    path = write_run(tmp_path / "runs" / "a", 0.9, method="x") / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"method": name, "student": "a|b"}))
    write_run(tmp_path / "runs" / "b", status="failed", error=name)
    text = report_texts(tmp_path / "report", leaderboard(tmp_path / "runs"))
    assert name not in text["html"]
    assert "<script>" not in text["md"]
    assert "a\\|b" in text["md"]


def test_the_page_loads_no_other_file(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95, 0.96], ce=[0.90, 0.91])
    html = report_texts(tmp_path / "report", leaderboard(tmp_path / "runs"))["html"]
    assert not re.search(r'(src|href)="|@import|url\((?!#)|https?://(?!www\.w3\.org)', html)


def test_a_report_is_replaced_atomically(tmp_path, monkeypatch):
    write_sweep(tmp_path / "runs", kd=[0.95])
    board, output = leaderboard(tmp_path / "runs"), tmp_path / "report"
    before = report_texts(output, board)
    monkeypatch.setattr("kd.reports.write.page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report_texts(output, board)
    assert {path.suffix[1:]: path.read_text() for path in output.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "report"}
    monkeypatch.undo()
    assert report_texts(output, board) == before


def test_a_folder_that_is_no_report_is_not_replaced(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95])
    with pytest.raises(UserError, match="exists and is not a report"):
        report_texts(tmp_path / "runs", leaderboard(tmp_path / "runs"))


def test_without_matplotlib_the_report_has_no_figures(tmp_path, monkeypatch, caplog):
    write_sweep(tmp_path / "runs", kd=[0.95])
    monkeypatch.setattr("kd.reports.write.find_spec", lambda name: None)
    write_report(leaderboard(tmp_path / "runs"), ABOUT, tmp_path / "report")
    assert not (tmp_path / "report" / "figures").exists()
    assert "pip install -e '.[plots]'" in caplog.text
