"""Detectors in every command after training."""

import csv
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import composed

import kd
import kd.predict
from kd.config.trust import Trust
from kd.deploy.evaluation.evaluate import evaluate
from kd.deploy.evaluation.figures import specs
from kd.deploy.evaluation.page import markdown
from kd.deploy.exporting.export import export
from kd.deploy.exporting.request import Request
from kd.deploy.finished_run import FinishedRun
from kd.deploy.runtimes.open import open_model_file
from kd.errors import UserError
from kd.training.run import run as train

CPU = torch.device("cpu")


@cache
def finished_boxes(output: Path) -> Path:
    """Train a small tiny_detector beside a larger one; returns the run's folder."""
    folder = output / "runs" / "boxes"
    output.mkdir(exist_ok=True)
    options = [
        *("data=digits_scenes", "data.scenes={train: 64, val: 16, test: 20}", "data.batch_size=16"),
        *("teacher=tiny_detector", "teacher.net.width=0.4", "student.net.width=0.25"),
        *("trainer.max_epochs=2", "teacher.training.trainer.max_epochs=1", "trainer=cpu"),
        *("logger=none", "trainer.enable_progress_bar=false", f"paths.output={output}"),
        f"paths.run={folder}",
    ]
    train(composed(*options), folder, overrides=options)
    return folder


@pytest.fixture(scope="module")
def run(output):
    return FinishedRun(finished_boxes(output), trust=Trust(record=True))


@pytest.fixture(scope="module")
def onnx(run):
    return export(run, Request("onnx", "fp32", latency=False, command="kd.export"))


@pytest.fixture
def photos(run, tmp_path):
    """A scene as it is, twice as large, and one that is not square."""
    folder = tmp_path / "photos"
    folder.mkdir()
    scenes = [Image.fromarray(scene[0].numpy()) for scene in run.data.arrays.test_inputs[:3]]
    scenes[0].save(folder / "a.png")
    scenes[1].resize((128, 128)).save(folder / "b.png")
    scenes[2].crop((0, 0, 64, 40)).save(folder / "c.png")
    return folder


def test_a_loaded_student_finds_boxes(run):
    student: Any = kd.load(run.folder)
    assert student.task == "detection"
    images = run.data.arrays.test_inputs[:4]
    found = student.detections(images)
    with torch.no_grad():
        alone = student.net.detections(student.net(student.preprocess(images)))
    assert [len(each["boxes"]) for each in found] == [len(each["boxes"]) for each in alone]
    assert all(each["boxes"].amax() <= 64 for each in found if len(each["boxes"]))
    for wrong, said in [(images[..., :32], r"\[4, 1, 64, 32\]"), ("text", "str")]:
        with pytest.raises(UserError, match=rf"must be a tensor \[B, 1, 64, 64\], got {said}"):
            student.detections(wrong)


def test_the_file_gives_the_boxes_and_scores_of_the_student(run, onnx):
    images = run.data.arrays.test_inputs
    boxes, scores = open_model_file(onnx).boxes(images.numpy())
    with torch.no_grad():
        predictions = run.student(images)
    ours, logits = run.student.net.decode(predictions)
    np.testing.assert_allclose(boxes, ours.clamp(0, 64), atol=1e-3)
    assert scores.shape == logits.shape
    np.testing.assert_allclose(scores, run.student.net.scores(predictions), atol=1e-3)
    sheet = json.loads(onnx.with_name(f"{onnx.name}.json").read_text())
    assert sheet["comparison"]["student_map"] == pytest.approx(run.result["test/map"])
    assert sheet["comparison"]["box_difference"] < 1e-3
    assert "duplicates (outside the graph)" in onnx.with_name(f"{onnx.name}.md").read_text()


@pytest.mark.parametrize(
    ("name", "precision", "reason"),
    [
        ("onnx", "int8", "by validation accuracy, which detectors do not have; what works: onnx"),
        ("openvino", "fp32", "kd.predict reads boxes from ONNX files and runs"),
    ],
)
def test_what_is_not_written_for_detectors_is_refused(name, precision, reason, run):
    with pytest.raises(UserError, match=reason):
        export(run, Request(name, precision))


def test_the_evaluation_has_map_and_cost(run):
    sheet = evaluate(run, None, None, CPU)
    teacher, student = sheet.nets
    for net, key in ((teacher, "teacher/test/"), (student, "test/")):
        for figure in ("map", "map50"):
            assert net.figures[figure] == pytest.approx(run.result[f"{key}{figure}"])
    assert student.cost.parameters == run.result["student/params"]
    assert "Fidelity, calibration and robustness are left out" in markdown(sheet, [])
    assert [*specs(sheet)] == []


@pytest.fixture
def predict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_FULL_ERROR", "0")

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["kd.predict", *words])
        code: object = 0
        try:
            kd.predict.main()
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return (1, code) if isinstance(code, str) else (int(str(code)), said.out)

    return call


def records(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_and_files_find_the_same_boxes_in_pixels_of_the_files(
    predict, run, onnx, photos, tmp_path
):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    words = ["images=photos", "min_score=0.1"]
    code, said = predict(f"run={run.folder}", *words, "draw=drawn", "output=a.csv", "trust=true")
    assert code == 0, said
    assert "boxes in 3 images" in " ".join(said.split())
    assert predict(f"run={onnx}", *words, "output=b.csv")[0] == 0
    ours, theirs = records(tmp_path / "a.csv"), records(tmp_path / "b.csv")
    assert [*ours[0]] == ["image", "class", "score", "x1", "y1", "x2", "y2"]
    assert [row["image"] for row in ours] == [row["image"] for row in theirs]
    corners = [[float(row[name]) for name in ("x1", "y1", "x2", "y2")] for row in ours]
    scores = [float(row["score"]) for row in ours]
    np.testing.assert_allclose(scores, [float(row["score"]) for row in theirs], atol=1e-4)
    # The larger scene is the net's own at half its size: twice the corners of its detections.
    with Image.open(photos / "b.png") as file:
        images = torch.from_numpy(np.array(file.resize((64, 64), Image.Resampling.BILINEAR)))
    own = run.student.detections(images[None, None])[0]
    largest = [c for c, row in zip(corners, ours, strict=True) if row["image"].endswith("b.png")]
    kept = own["boxes"][own["scores"] >= 0.1].numpy()
    np.testing.assert_allclose(largest, 2 * kept, atol=0.01)
    wide = [c for c, row in zip(corners, ours, strict=True) if row["image"].endswith("c.png")]
    assert max((c[3] for c in wide), default=0) <= 64
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"a.png", "b.png", "c.png"}
    with Image.open(tmp_path / "drawn" / "b.png") as drawing:
        assert drawing.size == (128, 128)
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["draw=photos"], "draw=photos holds files, which drawings could replace"),
        (["teacher=true"], "classes are set beside each other, and detectors give boxes"),
        (["min_score=high"], "min_score=high: must be a number"),
    ],
)
def test_mistakes_are_one_message(words, message, predict, run, photos, tmp_path):
    code, said = predict(f"run={run.folder}", "images=photos", "trust=true", *words)
    assert code == 1
    assert message in said
    assert not (tmp_path / "predictions.csv").exists()
