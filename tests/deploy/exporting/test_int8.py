"""int8 ONNX files: what is quantised, and which layers stay in fp32 to hold the accuracy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from int8_graphs import DESCRIPTION, LAYERS, images, write_net, write_without_layers
from onnx import numpy_helper

from kd.deploy.exporting.int8 import write_int8
from kd.deploy.exporting.int8_quantiser import Int8Quantiser
from kd.deploy.runtimes.base import ModelFile
from kd.deploy.runtimes.onnx import OnnxFile
from kd.errors import UserError


def agreement_with(file: Path) -> Callable[[ModelFile], float]:
    """The fraction of new images that a model gives the classes of the fp32 file."""
    validation = images(400, seed=7)
    labels = OnnxFile(file).logits(validation).argmax(1)
    return lambda model: float((model.logits(validation).argmax(1) == labels).mean())


def weight_types(file: Path) -> dict[str, str]:
    """The type of each layer's weights in a file."""
    tensors = {tensor.name: tensor for tensor in onnx.load(file).graph.initializer}
    return {layer: "int8" if f"{layer}.weight_quantized" in tensors else "fp32" for layer in LAYERS}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_net(tmp_path_factory.mktemp("plain") / "fp32.onnx")


@pytest.fixture(scope="module")
def sensitive(tmp_path_factory) -> Path:
    return write_net(tmp_path_factory.mktemp("sensitive") / "fp32.onnx", outlier=1000.0)


def test_all_layers_are_int8_where_the_bound_holds(plain, tmp_path):
    path = tmp_path / "int8.onnx"
    result = write_int8(plain, images(64), agreement_with(plain), 5.0, path)
    assert result.fp32_layers == ()
    assert result.layers == 4
    assert result.fp32_accuracy == 1
    assert result.drop == pytest.approx(100 * (1 - result.int8_accuracy))
    assert set(weight_types(path).values()) == {"int8"}
    assert agreement_with(plain)(OnnxFile(path)) == result.int8_accuracy > 0.95


def test_logits_are_near_those_of_fp32_and_are_not_rounded(plain, tmp_path):
    path = tmp_path / "int8.onnx"
    write_int8(plain, images(64), agreement_with(plain), 5.0, path)
    new = images(500, seed=3)
    exact, rounded = OnnxFile(plain).logits(new), OnnxFile(path).logits(new)
    assert np.abs(exact - rounded).mean() < 0.05 * exact.std()
    assert len(np.unique(rounded)) > 1000  # 256 at most, were they of eight bits


def test_weights_have_a_scale_for_each_output_channel(plain, tmp_path):
    path = tmp_path / "int8.onnx"
    write_int8(plain, images(64), agreement_with(plain), 5.0, path)
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    original = {t.name: numpy_helper.to_array(t) for t in onnx.load(plain).graph.initializer}
    weight = original["net.second.weight"]
    largest = np.abs(weight).max((1, 2, 3))
    np.testing.assert_allclose(tensors["net.second.weight_scale"], largest / 127, rtol=0.01)
    restored = tensors["net.second.weight_quantized"] * largest[:, None, None, None] / 127
    assert np.abs(restored - weight).max() < largest.max() / 127


def test_the_description_is_kept_with_the_new_precision(plain, tmp_path):
    path = tmp_path / "int8.onnx"
    write_int8(plain, images(64), agreement_with(plain), 5.0, path)
    assert OnnxFile(path).description == {**DESCRIPTION, "precision": "int8"}
    assert OnnxFile(plain).description == DESCRIPTION


def test_the_layer_that_costs_the_accuracy_alone_stays_in_fp32(sensitive, tmp_path):
    evaluate = agreement_with(sensitive)
    everything = tmp_path / "everything.onnx"
    everything.write_bytes(Int8Quantiser(sensitive, images(64)).quantised())
    assert evaluate(OnnxFile(everything)) < 0.9
    path = tmp_path / "int8.onnx"
    result = write_int8(sensitive, images(64), evaluate, 5.0, path)
    assert result.fp32_layers == ("net.second",)
    assert result.drop <= 5
    assert weight_types(path) == dict.fromkeys(LAYERS, "int8") | {"net.second": "fp32"}
    assert evaluate(OnnxFile(path)) == result.int8_accuracy


def test_layers_return_to_fp32_until_the_bound_holds_on_the_test_images_too(plain, tmp_path):
    """The bound holds at once on the validation images; the test images need another two layers."""
    path, losses = tmp_path / "int8.onnx", iter([6.0, 5.5, 4.0])
    result = write_int8(
        plain, images(64), agreement_with(plain), 5.0, path, test_drop=lambda _: next(losses)
    )
    assert len(result.fp32_layers) == list(weight_types(path).values()).count("fp32") == 2
    assert (result.test_drop, result.tested) == (4.0, 3)
    assert agreement_with(plain)(OnnxFile(path)) == result.int8_accuracy


def test_a_file_that_loses_more_is_not_written_unless_forced(sensitive, tmp_path):
    """No choice of layers reaches a gain of half a point."""
    path, evaluate = tmp_path / "int8.onnx", agreement_with(sensitive)
    with pytest.raises(UserError, match=r"max_drop=-0\.5.*force=true"):
        write_int8(sensitive, images(64), evaluate, -0.5, path)
    assert list(tmp_path.iterdir()) == []
    result = write_int8(sensitive, images(64), evaluate, -0.5, path, force=True)
    assert result.fp32_layers == ()
    assert evaluate(OnnxFile(path)) == result.int8_accuracy < 0.9


def test_all_layers_in_fp32_compute_what_the_fp32_file_computes(plain, tmp_path):
    path = tmp_path / "none.onnx"
    path.write_bytes(Int8Quantiser(plain, images(64)).quantised(LAYERS))
    new = images(50, seed=3)
    np.testing.assert_allclose(
        OnnxFile(path).logits(new), OnnxFile(plain).logits(new), rtol=1e-5, atol=1e-5
    )


def test_too_few_calibration_images(plain, tmp_path):
    with pytest.raises(UserError, match=r"31 calibration images are too few.*at least 32"):
        write_int8(plain, images(31), agreement_with(plain), 0.5, tmp_path / "int8.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_net_without_layers_names_its_operators(tmp_path):
    file = write_without_layers(tmp_path / "fp32.onnx")
    with pytest.raises(UserError, match=r"nothing to quantise.*Cast, Flatten, GlobalAveragePool"):
        write_int8(file, images(64), lambda _: 1.0, 0.5, tmp_path / "int8.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["fp32.onnx"]
