"""Files of students of texts from a stranger: what they name is bounded and never read."""

import json
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from test_rebuild import METADATA

import kd
from kd.deploy.prediction.predictor import open_predictor
from kd.errors import UserError
from kd.io.tensors import safetensors_bytes
from kd.models.text_cnn import TextCNN

FACTS = {"vocab_size": 30, "max_length": 6, "pad_index": 0, "num_classes": 2}
SIZES = {"dim": 4, "filters": 3, "widths": [2]}
WORDS = json.dumps({"words": ["good", "bad"]})
TEXTS = METADATA | {
    **{"task": "text_classification", "input_size": [6], "channels": None, "taps": {}},
    **{"mean": None, "std": None, "tokenizer": WORDS, "pad_index": 0},
}


def written(path, target="kd.models.text_cnn.TextCNN", arguments=None, **changed):
    """Write the weights of a small net, described as given."""
    arguments = FACTS | SIZES if arguments is None else arguments
    metadata = TEXTS | {"architecture": {"target": target, "arguments": arguments}} | changed
    settings: Any = {**FACTS, **SIZES}
    weights = TextCNN(**settings).state_dict()
    path.write_bytes(safetensors_bytes(weights, {"kd": json.dumps(metadata)}))
    return path


def test_an_intact_file_is_loaded_with_its_words(tmp_path):
    student = kd.load(written(tmp_path / "a.safetensors"))
    assert student.preprocess(["good bad unheard", "bad"]).tolist() == [[2, 4, 5, 1], [2, 5, 0, 0]]
    assert student("good").shape == (1, 2)


@pytest.mark.parametrize(
    ("target", "arguments", "said"),
    [
        ("text_cnn.TextCNN", {"vocab_size": 10**8}, "vocab_size=100000000 of the net"),
        ("text_cnn.TextCNN", {"vocab_size": 10**6, "dim": 1000}, "larger than the weights"),
        ("text_cnn.TextCNN", {"max_length": "6"}, "are no whole numbers"),
        ("text_cnn.token_mask", {}, "no model constructor of kd.models"),
        ("hf_text.HFText", {"path": "/etc"}, "would read other files"),
        ("hf_text.HFText", {"config": {"auto_map": {"a": "b.C"}}}, "has auto_map"),
        ("hf_text.HFText", {"config": {"hidden_size": 10**6}}, "config.hidden_size=1000000"),
    ],
)
def test_what_a_file_names_is_bounded(target, arguments, said, tmp_path):
    file = written(tmp_path / "a.safetensors", f"kd.models.{target}", FACTS | arguments)
    with pytest.raises(UserError, match=said):
        kd.load(file)


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        (None, "does not say how its texts became token ids"),
        ("{", "the tokenizer of the student's file is no JSON"),
        ("[]", "tokenizer"),
    ],
)
def test_a_damaged_tokenizer_is_one_message(tokenizer, said, tmp_path):
    student = kd.load(written(tmp_path / "a.safetensors", tokenizer=tokenizer))
    assert student(torch.ones(1, 3, dtype=torch.int64)).shape == (1, 2)
    with pytest.raises(UserError, match=said):
        student.preprocess("good")


def test_a_tokenizer_that_does_not_fit_the_net_is_one_message(tmp_path):
    words = json.dumps({"words": [f"w{number}" for number in range(99)]})
    predictor: Any = open_predictor(written(tmp_path / "a.safetensors", tokenizer=words))
    ids = predictor.tokenizer.encode(["w98"], 2).numpy()
    with pytest.raises(UserError, match=r"the token ids of its tokenizer: .* no such token"):
        predictor.logits(ids)


def onnx_file(path, dtype=TensorProto.INT64, **changed):
    """Write a graph from token ids to two logits, described as given."""
    about = {
        **{"format": 1, "student": "s", "method": "ce", "task": "text_classification"},
        **{"class_names": ["a", "b"], "input_size": [6], "channels": None, "mean": [], "std": []},
        **{"precision": "fp32", "accuracy": None, "kd_version": "0", "git_commit": None},
        **{"tokenizer": WORDS, "pad_index": 0, **changed},
    }
    ids = helper.make_tensor_value_info("ids", dtype, ["b", "l"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "k"])
    nodes = [
        helper.make_node("Cast", ["ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["floats"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["most", "most"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(nodes, "g", [ids], [logits])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"kd": json.dumps(about)})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pad_index": -1}, "pad_index is not a whole number ≥ 0"),
        ({"input_size": [6, 6]}, "input_size is not one whole number"),
        ({"tokenizer": 3}, "tokenizer is not a text"),
        ({"tokenizer": "{"}, "its tokenizer is no JSON"),
        ({"class_names": ["a", "b", "c"]}, "outputs of shape .1, 2., and its file names 3 classes"),
        ({"dtype": TensorProto.INT32}, r"no classifier of texts .*, int64 \[B, L\] -> logits"),
    ],
)
def test_a_model_that_is_not_as_described_is_refused(changed, said, tmp_path):
    good: Any = open_predictor(onnx_file(tmp_path / "good.onnx"))
    assert good.max_length == 6
    with pytest.raises(UserError, match=said):
        open_predictor(onnx_file(tmp_path / "bad.onnx", **changed))
