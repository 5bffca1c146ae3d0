"""The file of a run's test predictions: read back, small, and never trusted when damaged."""

import logging

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support import present

from kd.io.predictions import MAX_LOGITS, TOP, prediction_bytes, read_predictions


def written(path, classes=3, images=20, teacher=True):
    generator = torch.Generator().manual_seed(0)
    student, theirs = torch.randn(2, images, classes, generator=generator) * 5
    labels = torch.arange(images) % classes
    path.write_bytes(prediction_bytes(labels, student, theirs if teacher else None))
    return labels.numpy(), student.numpy(), theirs.numpy()


@pytest.mark.parametrize("classes", [3, 300])
def test_classes_and_logits_are_read_back(tmp_path, classes):
    path = tmp_path / "a.safetensors"
    labels, student, teacher = written(path, classes)
    found = present(read_predictions(path))
    assert found.labels.tolist() == labels.tolist()
    assert found.student.tolist() == student.argmax(1).tolist()
    assert present(found.teacher).tolist() == teacher.argmax(1).tolist()
    assert np.allclose(load_file(path)["student.logits"], student, atol=1e-2)


def test_there_may_be_no_teacher(tmp_path):
    path = tmp_path / "a.safetensors"
    written(path, teacher=False)
    assert present(read_predictions(path)).teacher is None


def test_large_test_sets_keep_the_most_probable_classes(tmp_path):
    classes, images = 1000, MAX_LOGITS // 2000 + 1
    path = tmp_path / "a.safetensors"
    _, student, _ = written(path, classes, images)
    tensors = load_file(path)
    assert path.stat().st_size < images * 80
    assert "student.logits" not in tensors
    order = np.argsort(-student, axis=1)[:, :TOP]
    assert (tensors["student.top_class"] == order).all()
    powers = np.exp(student.astype(float) - student.max(1, keepdims=True))
    expected = np.take_along_axis(powers / powers.sum(1, keepdims=True), order, 1)
    assert np.allclose(tensors["student.top_probability"], expected, atol=1e-3)


def test_logits_beyond_half_precision_keep_their_class(tmp_path):
    path = tmp_path / "a.safetensors"
    logits = torch.tensor([[1e6, 1e7, -1e7]])
    path.write_bytes(prediction_bytes(torch.tensor([1]), logits))
    assert present(read_predictions(path)).student.tolist() == [1]
    assert np.isfinite(load_file(path)["student.logits"]).all()


def test_a_damaged_file_is_left_out(tmp_path, caplog):
    path = tmp_path / "a.safetensors"
    written(path)
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[:8], "little")
    content[8 + size :] = bytes(byte ^ 1 for byte in content[8 + size :])
    for damaged in (content, content[:-9], b"", b"\0" * 40):
        path.write_bytes(damaged)
        with caplog.at_level(logging.WARNING):
            assert read_predictions(path) is None
        assert "a.safetensors is damaged and left out" in caplog.text
        caplog.clear()
    assert read_predictions(tmp_path / "none.safetensors") is None
