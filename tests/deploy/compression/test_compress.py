"""Compression of finished runs: what becomes smaller, what the files compute, what is kept."""

from typing import Any

import numpy as np
import pytest
import torch
from compressions import plan
from finished_runs import finished_run
from safetensors.torch import load_file

import kd
from kd.deploy.compression.compress import compress_all
from kd.deploy.compression.magnitude import sparsity
from kd.deploy.exporting import formats
from kd.deploy.runtimes.onnx import OnnxFile
from kd.io.result_file import read_result
from kd.training.run import run as train


@pytest.fixture
def without_onnx(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if "onnx" in name else name)


def raw(run):
    """Validation images and labels, test images and labels, as an own choice from the arrays."""
    arrays, val = run.data.arrays, run.data.split.val
    images, targets = arrays.train_inputs[val], arrays.train_targets[val]
    return images.numpy(), targets.numpy(), arrays.test_inputs.numpy(), arrays.test_targets.numpy()


@pytest.mark.usefixtures("without_onnx")
def test_channels_are_removed_and_weights_remain_without_onnx(output, tmp_path, caplog):
    caplog.set_level("INFO")
    run = finished_run("kd", output)
    made = plan(run, quantise="none", ratio=0.5, output=str(tmp_path / "small"), max_epochs=1)
    before, after = compress_all(made)
    assert after.parameters < 0.4 * before.parameters
    assert after.macs < 0.5 * before.macs
    assert after.file == str(tmp_path / "small" / "student.safetensors")
    assert "pip install -e '.[onnx]'" in caplog.text
    result = read_result(tmp_path / "small") or {}
    assert result["teacher"] == "resnet8"
    assert result["student/params"] == after.parameters
    assert after.test_acc == result["test/acc"]


@pytest.mark.slow
def test_magnitude_and_int8_together(output, tmp_path):
    run = finished_run("kd", output, "data.val_fraction=0.3")
    folder = tmp_path / "small"
    made = plan(run, prune="magnitude", ratio=0.6, output=str(folder), max_epochs=3)
    before, after = compress_all(made)
    assert after.gzip_bytes < 0.5 * before.gzip_bytes
    assert after.macs == before.macs
    assert after.sparsity == pytest.approx(0.6, abs=1e-3)
    assert sparsity(kd.load(folder)).fraction == after.sparsity
    weights = list(load_file(folder / "student.safetensors").values())
    assert all(len(channel.unique()) <= 255 for w in weights if w.dim() > 1 for channel in w)

    file = folder / "export" / "student-int8.onnx"
    assert after.file == str(file)
    assert after.file_bytes == file.stat().st_size
    images, targets, test_inputs, test_targets = raw(made.run)
    runtime = OnnxFile(file)
    assert after.val_acc == pytest.approx((runtime.logits(images).argmax(1) == targets).mean())
    assert after.test_acc == (runtime.logits(test_inputs).argmax(1) == test_targets).mean()
    assert zeros_in(file) == pytest.approx(0.6, abs=0.02)  # rounding to int8 adds some
    # The same command again trains nothing
    assert compress_all(made)[1].val_acc == after.val_acc


def zeros_in(file):
    """Share of zeros among the int8 weights of an ONNX file."""
    import onnx
    from onnx import numpy_helper

    found: list[Any] = [
        numpy_helper.to_array(tensor)
        for tensor in onnx.load(file).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert found
    return np.mean(np.concatenate([(each == 0).ravel() for each in found]))


@pytest.mark.slow
def test_a_file_that_loses_too_much_on_validation_is_written_by_force_only(output, tmp_path):
    run = finished_run("kd", output, "trainer.max_epochs=6")
    settings = {"prune": "magnitude", "ratio": 0.99, "output": str(tmp_path), "max_epochs": 1}
    (_, after) = compress_all(plan(run, max_drop=0.5, quantise="none", **settings))
    assert after.drop > 0.5
    assert after.file is None
    assert not (tmp_path / "export").exists()
    (_, after) = compress_all(plan(run, max_drop=0.5, quantise="none", force=True, **settings))
    assert after.file == str(tmp_path / "export" / "student-fp32.onnx")


@pytest.mark.slow
def test_a_search_keeps_its_finished_ratios(output, tmp_path, monkeypatch, without_onnx):
    settings = {"walk": True, "quantise": "none", "max_epochs": 1, "output": str(tmp_path / "all")}
    run = finished_run("kd", output)
    students = compress_all(plan(run, ratios=[0.5, 0.25], **settings))
    assert [each.label for each in students[1:]] == ["channels0.25", "channels0.5"]
    assert students[1].macs > students[2].macs
    trained = []

    def count(cfg, *arguments):
        trained.append(cfg.compression.ratio)
        return train(cfg, *arguments)

    monkeypatch.setattr("kd.deploy.compression.compress.train", count)
    compress_all(plan(run, ratios=[0.25, 0.5, 0.75], **settings))
    assert trained == [0.75]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simkd", "online", "byot", "ensemble"])
@pytest.mark.usefixtures("without_onnx")
def test_other_kinds_of_run_are_compressed(kind, output, tmp_path):
    run = finished_run(kind, output)
    made = plan(run, quantise="none", output=str(tmp_path / "small"), max_epochs=1)
    before, after = compress_all(made)
    assert after.parameters < before.parameters
    assert after.macs < before.macs


@pytest.mark.slow
@pytest.mark.usefixtures("without_onnx")
def test_a_compressed_student_is_compressed_again_teaches_and_starts_runs(output):
    run = finished_run("kd", output)
    small = run.with_name("kd_small")
    settings = {"quantise": "none", "max_epochs": 1}
    (_, once) = compress_all(plan(run, output=str(small), **settings))
    (first, twice) = compress_all(plan(small, output=str(run.with_name("kd_tiny")), **settings))
    assert first.parameters == once.parameters > twice.parameters
    teacher = ["teacher.net.width=0.5", f"teacher.checkpoint={small}"]
    taught = finished_run("kd", output, *teacher)
    assert (read_result(taught) or {})["teacher/params"] == once.parameters
    started = finished_run("ce", output, f"student.checkpoint={small}")
    assert (read_result(started) or {})["student/params"] == once.parameters
    with torch.no_grad():
        assert kd.load(started)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).shape == (1, 10)
