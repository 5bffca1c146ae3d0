"""A small fp32 ONNX classifier made by hand, one of whose layers does not survive int8."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from kd.deploy.exporting.description import KEY, Description, encode

LAYERS = ("net.first", "net.second", "net.third", "net.fc")
_DEAD = 0  # channel of the first layer that is always zero behind its ReLU

DESCRIPTION: Description = {
    "format": 1,
    "student": "by hand",
    "method": "ce",
    "task": "image_classification",
    "class_names": list("abcde"),
    "input_size": [8, 8],
    "channels": 3,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "precision": "fp32",
    "accuracy": 0.5,
    "kd_version": "0",
    "git_commit": None,
}


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random images [count, 3, 8, 8], of different brightness in each channel and row."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(count, 3, 8, 1)) + 0.5 * rng.normal(size=(count, 3, 8, 8))
    return np.clip(128 + 50 * waves, 0, 255).astype(np.uint8)


def write_net(path: Path, outlier: float = 0.0) -> Path:
    """Write three convolutions and a linear layer with random weights.

    Args:
        path: of the file.
        outlier: weight of every channel of `net.second` for an input that is always zero. It does
            not change the fp32 net; it sets the scale of all weights of that layer in int8.
    """
    rng = np.random.default_rng(1)
    arrays = {
        "shift": np.full((1, 3, 1, 1), 127.5),
        "scale": np.full((1, 3, 1, 1), 1 / 63.75),
        "net.fc.weight": rng.normal(size=(5, 16)),
        "net.fc.bias": np.zeros(5),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["floats", "shift"], ["shifted"], "sub"),
        helper.make_node("Mul", ["shifted", "scale"], ["x0"], "mul"),
    ]
    for number, (name, channels) in enumerate(zip(LAYERS, (3, 16, 16), strict=False)):
        weight = rng.normal(size=(16, channels, 3, 3)) / np.sqrt(9 * channels)
        bias = np.zeros(16)
        if name == "net.first":
            bias[_DEAD] = -1000
        if name == "net.second" and outlier:
            weight[:, _DEAD] = outlier
        arrays |= {f"{name}.weight": weight, f"{name}.bias": bias}
        inputs = [f"x{number}", f"{name}.weight", f"{name}.bias"]
        nodes += [
            helper.make_node("Conv", inputs, [f"y{number}"], name, pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"y{number}"], [f"x{number + 1}"], f"relu{number}"),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", ["x3"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node(
            "Gemm", ["flat", "net.fc.weight", "net.fc.bias"], ["logits"], "fc", transB=1
        ),
    ]
    _write(path, nodes, arrays)
    return path


def write_without_layers(path: Path) -> Path:
    """Write a classifier of images without weights."""
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["x"], ["y"], "pool"),
        helper.make_node("Flatten", ["y"], ["logits"], "flatten"),
    ]
    _write(path, nodes, {})
    return path


def _write(path: Path, nodes: list[onnx.NodeProto], arrays: dict[str, NDArray[np.float64]]) -> None:
    classes = 5 if arrays else 3
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {KEY: encode(DESCRIPTION)})
    path.write_bytes(model.SerializeToString())
