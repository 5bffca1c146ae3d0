"""Temperature belongs to the loss: a student taught at T = 20 answers softmax(logits) everywhere.

The reference is the bare net in torch, with its weights and its preprocessing by hand.
"""

import csv
import sys
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from commands import ROOT
from compressions import plan
from finished_runs import finished_run
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import log_loss
from support import softmax

import kd
import kd.predict
from kd.deploy.compression.compress import compress_all
from kd.deploy.evaluation.evaluate import evaluate
from kd.deploy.evaluation.predictions import raw_test_images
from kd.deploy.exporting.export import Request, export
from kd.deploy.exporting.formats import FORMATS
from kd.deploy.finished_run import FinishedRun
from kd.io.result_file import read_result
from kd.io.student_metadata import read_student_metadata

IMAGES = 12
QUICK = [("torch_export", "fp32"), ("safetensors", "fp32")]
FILES = [
    pytest.param(name, precision, marks=[] if (name, precision) in QUICK else pytest.mark.slow)
    for name, each in FORMATS.items()
    for precision in each.precisions
]
# Of a probability: rounding of the precision, and of int8 the step of its ranges
TOLERANCE = {"fp32": 1e-5, "fp16": 1e-3, "int8": 1e-2}


class Case(NamedTuple):
    """A run taught at T = 20: its test images and what the bare net answers."""

    run: FinishedRun
    images: np.ndarray
    targets: np.ndarray
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)


def bare_logits(folder, images):
    """Logits of the weights in a run's folder, without `kd.load`."""
    file = folder / "student.safetensors"
    about: Any = read_student_metadata(file)
    module, _, name = about["architecture"]["target"].rpartition(".")
    net = getattr(import_module(module), name)(**about["architecture"]["arguments"]).eval()
    net.load_state_dict(load_file(file))
    shape = (1, -1, 1, 1)
    mean, std = (torch.tensor(about[each]).view(shape) for each in ("mean", "std"))
    with torch.no_grad():
        return net((torch.from_numpy(images) / 255 - mean) / std).numpy()


@pytest.fixture(scope="module")
def case(output):
    run = FinishedRun(finished_run("kd", output, "method.temperature=20"))
    images = raw_test_images(run.data).numpy()
    found = Case(run, images, run.data.test_targets.numpy(), bare_logits(run.folder, images))
    # What these tests compare is far from what any use of T would give.
    for scale in (1 / 20, 20):
        assert np.abs(softmax(scale * found.logits) - found.probabilities).max() > 0.03
    return found


def test_kd_load(case):
    with torch.no_grad():
        found = kd.load(case.run.folder)(torch.from_numpy(case.images)).softmax(1)
    np.testing.assert_allclose(found.numpy(), case.probabilities, atol=1e-6)


def test_kd_evaluate(case):
    sheet = evaluate(case.run, None, None, torch.device("cpu"), with_robustness=False)
    at_one = log_loss(case.targets, case.probabilities, labels=range(10))
    at_twenty = log_loss(case.targets, softmax(case.logits / 20), labels=range(10))
    (student,) = [net for net in sheet.nets if net.role == "student"]
    found = student.figures["nll"]
    assert found == pytest.approx(at_one, rel=1e-5)
    assert found != pytest.approx(at_twenty, rel=1e-3)


def predicted(monkeypatch, folder, source, case):
    """Probabilities [N, 10] that `kd.predict` writes for the first images."""
    (folder / "photos").mkdir(exist_ok=True)
    for number, image in enumerate(case.images[:IMAGES]):
        Image.fromarray(image[0]).save(folder / "photos" / f"{number:02}.png")
    words = [f"run={source}", f"images={folder}/photos", f"output={folder}/a.csv", "top=10"]
    monkeypatch.setattr(sys, "argv", ["kd.predict", *words])
    kd.predict.main()
    with (folder / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    places = ["", *(f"_{place}" for place in range(2, 11))]
    found = np.zeros((len(rows), 10))
    for number, row in enumerate(rows):
        for place in places:
            found[number, int(row[f"class{place}"])] = float(row[f"probability{place}"])
    return found


@pytest.mark.parametrize("file", ["", "student.safetensors"])
def test_kd_predict(file, case, monkeypatch, tmp_path):
    found = predicted(monkeypatch, tmp_path, case.run.folder / file, case)
    np.testing.assert_allclose(found, case.probabilities[:IMAGES], atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize(("name", "precision"), FILES)
def test_kd_export(name, precision, case, monkeypatch, tmp_path):
    """Each file in its own runtime, in `kd.predict` and in the example without `kd`."""
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    file = export(
        case.run,
        Request(
            name,
            precision,
            output=tmp_path / f"a{FORMATS[name].suffix}",
            max_drop=100,
            force=True,
            latency=False,
        ),
    )
    expected, tolerance = case.probabilities[:IMAGES], TOLERANCE[precision]
    np.testing.assert_allclose(
        softmax(logits_of(file, case.images[:IMAGES])), expected, atol=tolerance
    )
    if name not in ("executorch", "openvino"):
        found = predicted(monkeypatch, tmp_path, file, case)
        np.testing.assert_allclose(found, expected, atol=tolerance)
    if name == "onnx":
        example = import_example(monkeypatch)
        found = example.Model(str(file)).probabilities(case.images[:IMAGES])
        np.testing.assert_allclose(found, expected, atol=tolerance)


def logits_of(file, images):
    if file.suffix == ".pte":
        from kd.deploy.runtimes.executorch import ExecutorchFile

        return ExecutorchFile(file).logits(images)
    if file.suffix == ".xml":
        from kd.deploy.runtimes.openvino import OpenvinoFile

        return OpenvinoFile(file).logits(images)
    if file.suffix == ".safetensors":
        from kd.deploy.runtimes.safetensors import SafetensorsFile

        return SafetensorsFile(file).logits(images)
    from kd.deploy.runtimes.open import open_model_file

    return open_model_file(file).logits(images)


def import_example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "examples"))
    return import_module("predict_onnx")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporters
@pytest.mark.parametrize("quantise", ["int8", "none"])
def test_kd_compress(quantise, case, monkeypatch, tmp_path):
    """The run that compresses, its weights and the ONNX file that it writes."""
    small = tmp_path / "small"
    settings = {"prune": "magnitude", "quantise": quantise, "max_epochs": 1}
    compress_all(plan(case.run.folder, output=str(small), **settings))
    logits = bare_logits(small, case.images)
    expected = softmax(logits[:IMAGES])
    assert np.abs(softmax(logits / 20) - softmax(logits)).max() > 0.03
    found = predicted(monkeypatch, tmp_path, small, case)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    tolerance = TOLERANCE["int8" if quantise == "int8" else "fp32"]
    (file,) = small.rglob("*.onnx")
    found = predicted(monkeypatch, tmp_path, file, case)
    np.testing.assert_allclose(found, expected, atol=tolerance)
    if quantise == "none":  # with int8 the run's own figures are those of rounded activations
        at_one = log_loss(case.targets, softmax(logits), labels=range(10))
        assert (read_result(small) or {})["test/nll"] == pytest.approx(at_one, rel=1e-4)
