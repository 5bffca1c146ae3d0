"""A net from a stranger's file: known constructors only, and no larger than its weights."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ROOT
from support import read_yaml

import kd
from kd.config.compose import CONF_DIR
from kd.deploy.rebuild import constructors
from kd.io.tensors import safetensors_bytes
from kd.models.mlp import mlp
from kd.models.torchvision_net import torchvision_net

MLP: dict[str, Any] = {"in_channels": 1, "image_size": 4, "num_classes": 2, "hidden": [5]}
METADATA = {
    "format": 1,
    "architecture": {"target": "kd.models.mlp.mlp", "arguments": MLP},
    "no_architecture": None,
    "taps": {"stage1": "stage1"},
    "class_names": ["a", "b"],
    "input_size": [4, 4],
    "channels": 1,
    "mean": [0.5],
    "std": [0.25],
    "channels_last": False,
    "task": "image_classification",
    "method": "kd",
    "kd_version": "0.1.0",
    "git_commit": None,
}


@pytest.fixture
def written(tmp_path):
    """A function that writes weights with given metadata and returns the file."""

    def write(metadata, net=None) -> Path:
        file = tmp_path / "student.safetensors"
        net = net or mlp(**MLP)
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        file.write_bytes(safetensors_bytes(net.state_dict(), {"kd": text}))
        return file

    return write


def architecture(target="kd.models.mlp.mlp", **changed):
    return METADATA | {"architecture": {"target": target, "arguments": MLP | changed}}


def test_the_constructors_are_those_of_the_model_configs():
    named = {
        config["net"]["_target_"]
        for config in map(read_yaml, (CONF_DIR / "model").glob("*.yaml"))
        if "_target_" in config.get("net", {})
    }
    assert constructors().keys() == named


def test_known_constructors_are_called(written):
    student = kd.load(written(METADATA))
    assert student(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)).shape == (3, 2)
    arguments = {"arch": "resnet18", "weights": None}
    net = torchvision_net(1, 32, 2, arch="resnet18")
    file = written(
        METADATA
        | {
            "architecture": {
                "target": "kd.models.torchvision_net.torchvision_net",
                "arguments": {"in_channels": 1, "image_size": 32, "num_classes": 2, **arguments},
            }
        },
        net,
    )
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(kd.load(file)(images), net.eval()(images))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "antigravity.geohash",
        "torch.load",
        "kd.models",
        "kd.models.mlp",
        "kd.models.mlp.OrderedDict",
        "kd.models.mlp.scaled",
        "kd.models.sizing.check_forward",
        "kd.models.torchvision_net._load",
        "kd.models.torchvision_net.models.get_model",
        "kd.models.mlp.mlp.__globals__",
        "kd.models..mlp",
        "kd.io.weights.load_weights",
        "",
    ],
)
def test_other_targets_are_not_called(target, written):
    with pytest.raises(kd.UserError, match=r"is no model constructor of kd\.models"):
        kd.load(written(architecture(target)))


def test_the_module_of_another_target_is_not_imported(written):
    file = written(architecture("antigravity.geohash"))
    code = f"""
import sys, kd
try:
    kd.load({str(file)!r})
except kd.UserError:
    print("antigravity" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "arguments",
    [
        {"pretrained": True},
        {"weights": "DEFAULT"},
        {"checkpoint_path": "model.pth"},
        {"pretrained_cfg": {"url": "file:model.pth"}},
        {"cache_dir": "elsewhere"},
    ],
)
def test_arguments_that_read_files_are_refused(arguments, written):
    target = "kd.models.timm_net.timm_net"
    with pytest.raises(kd.UserError, match="would read other files"):
        kd.load(written(architecture(target, arch="resnet18", **arguments)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hidden": [10**12]}, "is not accepted"),
        ({"hidden": [90_000, 90_000, 90_000]}, "larger than the weights"),
        ({"hidden": [1] * 900}, "larger than the weights"),
        ({"hidden": [[[[[1]]]]]}, "is not accepted"),
        ({"num_classes": 10**9}, "is not accepted"),
        ({"image_size": 10**6}, "is not accepted"),
        ({"image_size": 2000, "in_channels": 1000}, "are too large"),
        ({"image_size": "4"}, "no whole numbers"),
        ({"dropout": float("nan")}, "is not accepted"),
        ({"width": {"a": 1}}, "is not accepted"),
        ({"unknown": 1}, "refuses its recorded arguments"),
        ({"hidden": []}, "refuses its recorded arguments"),
        ({"hidden": [6]}, "does not fit the net"),
    ],
)
def test_the_arguments_are_bounded(arguments, said, written):
    with pytest.raises(kd.UserError, match=said):
        kd.load(written(architecture(**arguments)))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ("{", "damaged"),
        ("[" * 200_000, "damaged"),
        ("[]", "no format number"),
        (json.dumps(METADATA) + " " * 24_000_000, "exceeds 24000000 characters"),
        (METADATA | {"format": 2}, "format 2, and this version of kd reads up to 1"),
        (METADATA | {"class_names": "ab"}, "class_names is not a list of texts"),
        (METADATA | {"taps": {"stage1": 1}}, "taps is not a map of texts"),
        (METADATA | {"input_size": [4, 4, 4]}, "input_size is not one or two whole numbers"),
        (METADATA | {"channels": 0}, "channels is not a whole number"),
        (METADATA | {"mean": [0.5, 0.5]}, "mean and std are not of 1 channels"),
        (METADATA | {"std": ["x"]}, "std is not a list of numbers"),
        (METADATA | {"architecture": {"target": 1}}, "architecture is not a target"),
        ({k: v for k, v in METADATA.items() if k != "task"}, "task is not a text"),
    ],
)
def test_damaged_metadata_are_refused(metadata, said, written):
    with pytest.raises(kd.UserError, match=said):
        kd.load(written(metadata))


def test_damaged_files_are_refused(written):
    file = written(METADATA)
    whole = file.read_bytes()
    for content in (b"", whole[:20], whole[:-4], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(content)
        with pytest.raises(kd.UserError, match="damaged"):
            kd.load(file)


def test_unknown_normalisation_leaves_floats_only(written):
    student = kd.load(written(METADATA | {"mean": None, "std": None}))
    assert student.accepts == ("normalised floating point",)
    assert student(torch.zeros(1, 1, 4, 4)).shape == (1, 2)
    with pytest.raises(kd.UserError, match="does not say how its images were normalised"):
        student(torch.zeros(1, 1, 4, 4, dtype=torch.uint8))
