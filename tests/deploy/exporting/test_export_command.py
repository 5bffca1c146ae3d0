"""`python -m kd.export`: its output and its messages."""

import pytest
from commands import Command
from finished_runs import finished_run
from in_process import start


def test_settings_are_checked_before_hydra_starts(monkeypatch):
    assert start(monkeypatch, "export", "run=a", "format=onnx") == "run=a format=onnx"
    assert "did you mean 'precision'?" in start(monkeypatch, "export", "run=a", "precison=fp16")


def test_the_command_prints_the_sheet_and_records_itself(output):
    folder = finished_run("ce", output)
    line = [f"run={folder}", "format=safetensors", "precision=fp16", "latency=false"]
    answer = Command("kd.export", *line).ended()
    assert answer.returncode == 0, answer.stderr
    assert f"written: {folder}/export/student-fp16.safetensors" in answer.stdout
    assert f"| command | python -m kd.export {' '.join(line)} |" in answer.stdout
    assert "largest difference of a logit" in answer.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=nowhere", "format=onxx"], "error: format=onxx: there is no such format; did you"),
        (["format=onnx"], "error: no run is given: add run=FOLDER"),
        (["run=conf"], "error: run=conf is no run: it holds no result.json"),
        (["run=conf", "max_drop=-1"], "error: max_drop=-1: must be a number ≥ 0"),
    ],
)
def test_mistakes_are_one_message(words, message):
    answer = Command("kd.export", *words).ended()
    assert answer.returncode == 1
    assert answer.stderr.startswith(message)
    assert "Traceback" not in answer.stderr
