"""ONNX files of linear classifiers, which are made in milliseconds."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kd.deploy.exporting.description import KEY, Description, encode

CLASSES = ["ant", "bee", "=cat()"]


def description(size: int, channels: int = 3, **changes: Any) -> Description:
    plain: dict[str, Any] = {
        "format": 1, "student": "linear", "method": "kd", "task": "image_classification",
        "class_names": CLASSES, "input_size": [size, size], "channels": channels,
        "mean": [0.5] * channels, "std": [0.25] * channels, "precision": "fp32", "accuracy": 0.5,
        "kd_version": "0", "git_commit": None,
    }  # fmt: skip
    return Description(**{**plain, **changes})  # type: ignore[typeddict-item]


def weights(size: int, channels: int = 3) -> np.ndarray:
    """Weights [C · H · W, 3] of the classifier."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.003, (channels * size * size, 3)).astype(np.float32)


def linear_onnx(
    path: Path, size: int = 8, channels: int = 3, about: Description | None = None
) -> Path:
    """Write a file whose logits are pixels · weights; `about` describes it, else truthfully."""
    matrix = weights(size, channels)
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    images = helper.make_tensor_value_info(
        "images", TensorProto.UINT8, ["batch", channels, size, size]
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(
        nodes, "linear", [images], [logits], [numpy_helper.from_array(matrix, "weights")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    text = encode(about or description(size, channels))
    helper.set_model_props(model, {KEY: text})
    onnx.save(model, path)
    return path
