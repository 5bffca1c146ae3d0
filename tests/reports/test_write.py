"""Report files: their content, escaping of names, atomic replacement."""

import csv
import json
import re

import pytest
from run_folders import ABOUT, TABLES, leaderboard, report_texts, write_run, write_sweep

from kd.errors import UserError
from kd.report import _print as print_board
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


EVIL = ("[x](javascript:alert(1))", "![i](https://example.org/a.png)", "<img src=x>", "a|b")
ODD = "\x1b]0;title\x07\x1b[31m\u202ered\u200b\ud800\r"


def evil_board(tmp_path):
    for number, name in enumerate((*EVIL, ODD, "=cmd|' /C calc'!A0", "@SUM(1)", "-1+1", "\t=1")):
        path = write_run(tmp_path / "runs" / f"r{number}", 0.9) / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"method": name}))
    write_run(tmp_path / "runs" / "failed", status="failed", error=ODD + EVIL[0])
    return leaderboard(tmp_path / "runs")


def test_a_spreadsheet_runs_no_cell_as_a_formula(tmp_path):
    text = report_texts(tmp_path / "report", evil_board(tmp_path))["csv"]
    rows = list(csv.DictReader(text.splitlines()))
    assert "'=cmd|' /C calc'!A0" in {row["method"] for row in rows}
    for row in rows:
        for key, cell in row.items():
            formula = cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))
            assert not formula or float(cell) < 0, (key, cell)


def test_markdown_shows_names_and_links_nowhere(tmp_path):
    text = report_texts(tmp_path / "report", evil_board(tmp_path))["md"]
    assert not re.search(r"(?<!\\)\]\(|(?<!\\)!\[|<img src=x|javascript:|https?://example", text)
    assert "a\\|b" in text


def test_control_and_bidirectional_characters_are_made_visible(tmp_path, capfd):
    board = evil_board(tmp_path)
    text = report_texts(tmp_path / "report", board)
    for form, content in text.items():
        assert not set("\x1b\x07\u202e\u200b\r") & set(content), form
        assert "x1b" in content, form
    print_board(board, tmp_path)
    printed = capfd.readouterr().out
    assert not set("\x1b\x07\u202e\u200b") & set(printed)
    assert "\\x1b[31m" in printed


@pytest.mark.parametrize("name", ["report.html", "report.md", "report.csv", "figures/a.png"])
def test_a_folder_of_documents_is_neither_emptied_nor_overwritten(name, tmp_path):
    docs = tmp_path / "docs"
    for file in ("thesis.txt", name):
        (docs / file).parent.mkdir(parents=True, exist_ok=True)
        (docs / file).write_text("<html>mine</html>")
    write_sweep(tmp_path / "runs", kd=[0.95])
    with pytest.raises(UserError, match="not a report"):
        report_texts(docs, leaderboard(tmp_path / "runs"))
    assert (docs / name).read_text() == (docs / "thesis.txt").read_text() == "<html>mine</html>"


def test_notes_in_a_report_stay_and_its_old_figures_go(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95, 0.96], ce=[0.9, 0.91])
    board, output = leaderboard(tmp_path / "runs"), tmp_path / "report"
    write_report(board, ABOUT, output)
    drawn = {path.name for path in (output / "figures").iterdir()}
    assert drawn
    (output / "notes.txt").write_text("mine")
    (output / "figures" / "mine.png").write_text("mine")
    write_report(board, ABOUT, output, TABLES)
    assert {path.name for path in (output / "figures").iterdir()} == {"mine.png"}
    assert (output / "notes.txt").read_text() == "mine"
    write_report(board, ABOUT, output)
    assert {path.name for path in (output / "figures").iterdir()} == drawn | {"mine.png"}


def test_a_file_that_the_earlier_report_did_not_write_is_not_replaced(tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95, 0.96], ce=[0.9, 0.91])
    board, output = leaderboard(tmp_path / "runs"), tmp_path / "report"
    write_report(board, ABOUT, output)
    name = next((output / "figures").iterdir()).name
    write_report(board, ABOUT, output, TABLES)
    (output / "figures" / name).write_text("mine")
    with pytest.raises(UserError, match=name):
        write_report(board, ABOUT, output)
    assert (output / "figures" / name).read_text() == "mine"


@pytest.mark.parametrize("place", ["report", "report/figures"])
def test_a_report_is_not_written_through_a_link(place, tmp_path):
    write_sweep(tmp_path / "runs", kd=[0.95])
    (tmp_path / "target").mkdir()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / "target")
    with pytest.raises(UserError, match="symbolic link"):
        report_texts(tmp_path / "report", leaderboard(tmp_path / "runs"))
    assert list((tmp_path / "target").iterdir()) == []
