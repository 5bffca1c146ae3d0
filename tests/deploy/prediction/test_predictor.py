"""Predictors of runs of every kind and of files, compared with the run's own figures."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from finished_runs import KINDS, finished_run
from linear_onnx import description, linear_onnx, weights
from support import softmax

from kd.deploy.finished_run import FinishedRun
from kd.deploy.prediction.predictions import ranked
from kd.deploy.prediction.predictor import open_predictor
from kd.errors import UserError
from kd.io.checksums import with_checksum


def images_and_targets(run):
    data = run.data
    return data.arrays.test_inputs.numpy(), data.test_targets.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_classes_have_the_accuracy_of_the_run(kind, output):
    folder = finished_run(kind, output)
    run = FinishedRun(folder)
    images, targets = images_and_targets(run)
    has_teacher = run.result["teacher/test/acc"] is not None
    predictor: Any = open_predictor(folder, with_teacher=has_teacher)
    right = predictor.logits(images).argmax(1) == targets
    assert np.float32(right.mean()) == np.float32(run.result["test/acc"])
    if predictor.teacher is not None:
        right = predictor.teacher(images).argmax(1) == targets
        assert right.mean() == pytest.approx(run.result["teacher/test/acc"], abs=1e-6)
    else:
        with pytest.raises(UserError, match=r"teacher=true: .*no pretrained teacher \(method="):
            open_predictor(folder, with_teacher=True)


def test_a_cached_teacher_runs_on_the_images(output):
    """Its cached outputs are of training images."""
    folder = finished_run("kd", output)
    acquired = FinishedRun(folder).teacher
    assert acquired is not None
    images, _ = images_and_targets(FinishedRun(folder))
    predictor: Any = open_predictor(folder, with_teacher=True)
    assert predictor.teacher is not None
    found = predictor.teacher(images[::-1].copy())[::-1]
    torch.testing.assert_close(torch.from_numpy(found.copy()), acquired.test_logits)


def test_the_last_stage_of_a_chain_predicts(output):
    folder = output / "runs" / "chain"
    shutil.copytree(finished_run("kd", output), folder / "2_resnet8")
    content = {"status": "completed", "runs": [{"stage": "1_resnet14"}, {"stage": "2_resnet8"}]}
    (folder / "chain.json").write_text(json.dumps(with_checksum(content)))
    images, _ = images_and_targets(FinishedRun(folder))
    predictors: list[Any] = [open_predictor(f) for f in (folder, finished_run("kd", output))]
    found, expected = (predictor.logits(images) for predictor in predictors)
    np.testing.assert_array_equal(found, expected)


def test_an_exported_file_predicts(tmp_path):
    predictor: Any = open_predictor(linear_onnx(tmp_path / "linear.onnx"))
    assert (predictor.channels, predictor.size) == (3, (8, 8))
    images = np.random.default_rng(1).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    expected = softmax(images.reshape(5, -1).astype(np.float64) @ weights(8))
    for row, probabilities in zip(ranked(predictor.logits(images), 3), expected, strict=True):
        assert [each.label for each in row] == np.argsort(-probabilities).tolist()
        found = [each.probability for each in row]
        np.testing.assert_allclose(found, sorted(probabilities, reverse=True), rtol=1e-4)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (description(9), r"does not take images of 3 x 9 x 9, as its file says"),
        (description(8, channels=1), r"does not take images of 1 x 8 x 8, as its file says"),
        (description(8, class_names=["a"]), r"outputs of shape \[1, 3\], .* names 1 classes"),
        (description(8, channels=4), r"takes images of 4 channels, and image files give 1"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(about, message, tmp_path):
    file = linear_onnx(tmp_path / "linear.onnx", about=about)
    with pytest.raises(UserError, match=message):
        open_predictor(file)


def test_other_files_are_refused(output, tmp_path):
    with pytest.raises(UserError, match=r"run=.*missing\.onnx: there is no such file"):
        open_predictor(tmp_path / "missing.onnx")
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"a\.onnx is damaged or no ONNX model"):
        open_predictor(tmp_path / "a.onnx")
    (tmp_path / "a.onx").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"a\.onx: neither a run's folder .* mean '\.onnx'"):
        open_predictor(tmp_path / "a.onx")
    with pytest.raises(UserError, match=r"run=.*: there is no such folder"):
        open_predictor(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"teacher=true: .*a\.onnx is one model; give run=FOLDER"):
        open_predictor(tmp_path / "a.onnx", with_teacher=True)
