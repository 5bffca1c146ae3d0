"""`kd.evaluate`: the sheet of several kinds of run, and its messages for mistakes."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command
from finished_runs import finished_run
from in_process import start
from scipy.stats import entropy
from sklearn import metrics
from sklearn.metrics import log_loss
from support import present, softmax
from torchmetrics.classification import MulticlassCalibrationError

from kd.deploy.evaluation import write
from kd.deploy.evaluation.evaluate import evaluate
from kd.deploy.evaluation.page import markdown, page
from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.evaluation.write import check_output, write_evaluation
from kd.deploy.finished_run import FinishedRun
from kd.errors import UserError
from kd.io.run_folder import RunFolder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sheet(output):
    run = FinishedRun(finished_run("simkd", output))
    return evaluate(run, FinishedRun(finished_run("ce", output), "baseline"), None, CPU)


def test_nets_stand_side_by_side(sheet, output):
    assert [net.role for net in sheet.nets] == ["teacher", "student", "baseline"]
    run = FinishedRun(finished_run("simkd", output))
    teacher, student, baseline = sheet.nets
    assert student.figures["acc"] == pytest.approx(run.result["test/acc"])
    assert student.cost.parameters == run.result["student/params"]
    assert teacher.cost.parameters == run.result["teacher/params"]
    assert student.cost.file_bytes == (run.folder / "student.safetensors").stat().st_size
    assert student.figures["agreement"] == pytest.approx(run.result["test/agreement"])
    assert "agreement" not in teacher.figures
    assert 0 <= baseline.figures["agreement"] <= 1
    assert any("the projector and that classifier" in note for note in sheet.notes)


def test_a_run_without_a_teacher_has_one_column(output):
    run = FinishedRun(finished_run("ce", output))
    found = evaluate(run, None, None, CPU, with_robustness=False)
    assert [net.role for net in found.nets] == ["student"]
    assert "Fidelity" not in markdown(found, [])


def test_an_untrained_teacher_is_drawn_again(output):
    run = FinishedRun(finished_run("kd", output, "control=untrained"))
    found = evaluate(run, None, None, CPU, with_robustness=False)
    teacher, student = found.nets
    assert teacher.figures["acc"] == pytest.approx(run.result["teacher/test/acc"])
    assert student.figures["agreement"] == pytest.approx(run.result["test/agreement"])


@pytest.fixture(scope="module")
def taught(output):
    """A student that was taught at temperature 20: its figures, logits, the teacher's, labels."""
    run = FinishedRun(finished_run("kd", output, "method.temperature=20"))
    found = present(evaluate(run, None, None, CPU, with_robustness=False).net("student"))
    with torch.no_grad():
        logits = run.student(raw_test_images(run.data)).numpy()
    teacher = present(present(run.teacher).test_logits).numpy()
    return found.figures, logits, teacher, run.data.test_targets.numpy()


def test_figures_are_those_of_scikit_learn_torchmetrics_and_scipy(taught):
    figures, logits, teacher, targets = taught
    predicted, p, labels = logits.argmax(1), softmax(logits), range(10)
    right = teacher.argmax(1) == targets
    same = predicted == teacher.argmax(1)
    ece = MulticlassCalibrationError(10, n_bins=15)
    expected = {
        "images": len(targets),
        "acc": metrics.accuracy_score(targets, predicted),
        "acc_top5": metrics.top_k_accuracy_score(targets, logits, k=5, labels=labels),
        "acc_per_class": metrics.recall_score(targets, predicted, average=None, zero_division=0),
        "confusion": metrics.confusion_matrix(targets, predicted, labels=labels),
        "agreement": same.mean(),
        "agreement/teacher_right": same[right].mean(),
        "agreement/teacher_wrong": same[~right].mean(),
        "kl": entropy(softmax(teacher), p, axis=1).mean(),
        "ece": ece(torch.tensor(p).float(), torch.tensor(targets)).item(),
        "nll": log_loss(targets, p, labels=labels),
        "brier": metrics.mean_squared_error(np.eye(10)[targets], p) * 10,
    }
    for key, value in expected.items():
        assert np.array(figures[key]) == pytest.approx(np.array(value), rel=1e-4, abs=1e-6), key


def test_files_are_written_as_a_whole(sheet, tmp_path, monkeypatch):
    output = tmp_path / "evaluation"
    for figures in (False, True):  # the second replaces the first
        write_evaluation(sheet, output, figures)
    assert {p.name for p in tmp_path.iterdir()} == {"evaluation"}
    content = json.loads((output / "evaluation.json").read_text())
    assert content["nets"][1]["figures"]["acc"] == sheet.nets[1].figures["acc"]
    found = {p.relative_to(output).as_posix() for p in output.rglob("*") if p.is_file()}
    assert found == set(content["files"])
    folder = RunFolder(tmp_path)
    assert all(folder.is_own(p) for p in (output, *output.rglob("*")))
    html = (output / "evaluation.html").read_text()
    assert "https://" not in html.replace("http://www.w3.org", "")
    before = {p: p.read_bytes() for p in output.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write, "page", full)
    with pytest.raises(UserError, match=f"output={output} cannot be written: No space left"):
        write_evaluation(sheet, output, figures=False)
    assert {p: p.read_bytes() for p in output.rglob("*") if p.is_file()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"evaluation"}


def test_foreign_files_are_not_replaced(sheet, tmp_path, monkeypatch):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds thesis\.txt, which is not of an evaluation"):
        check_output(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        check_output(tmp_path / "thesis.txt")
    with pytest.raises(UserError, match=r"thesis\.txt is no folder; choose another place"):
        check_output(tmp_path / "thesis.txt" / "new" / "evaluation")
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # root may write everywhere
        with pytest.raises(UserError, match="cannot be written"):
            check_output(tmp_path / "new")
    write_evaluation(sheet, tmp_path / "new", figures=False)
    (tmp_path / "new" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes\.txt"):
        write_evaluation(sheet, tmp_path / "new", figures=False)


def test_names_are_escaped(sheet):
    evil = type(sheet)(
        sheet.run, "<script>", ["<b>", *sheet.class_names[1:]], sheet.nets, ["![i](//x)"]
    )
    assert "<script>" not in page(evil, []) + markdown(evil, [])
    assert "<b>" not in page(evil, [])
    assert "\n- ![" not in markdown(evil, [])


def test_classes_must_match(output, monkeypatch):
    run = FinishedRun(finished_run("ce", output))
    names = list(run.data.class_names)
    for changed, message in ((names[:-1], "10 classes, and data="), (names[::-1], "label 0 is")):
        monkeypatch.setattr(type(run.data), "class_names", changed)
        with pytest.raises(UserError, match=message):
            evaluate(run, None, None, CPU)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no run is given: add run=FOLDER"),
        (["run=nowhere"], "run=nowhere: there is no such folder"),
        (["run={ce}", "device=gpux"], "device=gpux"),
        (["run={ce}", "robustness=perhaps"], "robustness=perhaps: must be true or false"),
        (["run={ce}", "output=[a,b]"], "output=['a', 'b']: must be a path"),
        (["run={ce}", "teacher_checkpoint=[a]"], "teacher_checkpoint=['a']: must be a path"),
        (["run={ce}", "output={ce}"], "which is not of an evaluation"),
        (["run={ce}", "baseline=conf"], "baseline=conf is no run"),
        (["run={ce}", "baseline={ce}"], "is the run itself; name another run"),
    ],
)
def test_mistakes_have_one_message(words, message, output):
    ce = finished_run("ce", output)
    done = Command("kd.evaluate", *(word.format(ce=ce) for word in words)).ended()
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(ce, "evaluation").exists()


def test_the_command_writes_the_sheet_beside_the_run(output):
    folder = finished_run("ce", output)
    line = ["device=cpu", "robustness=false", "figures=false", "data=digits"]
    done = Command("kd.evaluate", f"run={folder}", *line, f"output={output / 'sheet'}").ended()
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert f"run={folder}" in (output / "sheet" / "evaluation.md").read_text().replace("\\", "")
    content = json.loads((output / "sheet" / "evaluation.json").read_text())
    assert np.isfinite(content["nets"][0]["figures"]["nll"])


@pytest.mark.parametrize("data", ["digits", "text", "digits_scenes"])
def test_data_of_every_task_can_be_given(data, monkeypatch):
    words = ("run=x", f"data={data}")
    assert start(monkeypatch, "evaluate", *words) == " ".join(words)
