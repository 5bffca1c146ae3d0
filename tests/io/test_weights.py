"""Weights from every common kind of file, and one message for each kind of bad file."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kd.errors import UserError
from kd.io.weights import load_weights

WEIGHTS = "student.safetensors"


def make_net(classes: int = 10, channels: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    )


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in make_net().state_dict().items()}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


FORMATS = {
    "state dict": lambda: prefixed(""),
    "data parallel": lambda: prefixed("module."),
    "compiled": lambda: prefixed("_orig_mod."),
    "wrapped": lambda: {"epoch": 3, "state_dict": prefixed(""), "best_acc1": 0.9},
    "wrapped data parallel": lambda: {"state_dict": prefixed("module."), "arch": "x"},
    "wrapped as model": lambda: {"model": prefixed("")},
    "lightning, a distiller of this package": lambda: {
        "state_dict": {**prefixed("student."), "objectives.hint.regressor.weight": torch.ones(1)},
        "pytorch-lightning_version": "2.6.0",
    },
    "lightning, another module": lambda: {"state_dict": prefixed("model.")},
    "compiled data parallel": lambda: prefixed("_orig_mod.module."),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_common_formats_load(kind, tmp_path):
    torch.manual_seed(0)
    content = FORMATS[kind]()
    torch.save(content, tmp_path / "weights.pt")
    torch.manual_seed(0)
    expected, net = make_net().state_dict(), make_net()
    load_weights(net, tmp_path / "weights.pt")
    for key, value in net.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("name", [WEIGHTS, "x.safetensors"])
def test_safetensors_and_run_folders_load(name, tmp_path):
    source, net = make_net(), make_net()
    save_file(source.state_dict(), tmp_path / name)
    load_weights(net, tmp_path if name == WEIGHTS else tmp_path / name)
    assert torch.equal(net.get_parameter("0.weight"), source.get_parameter("0.weight"))


def broken(tmp_path: Path, kind: str) -> Path:
    if kind == "folder":
        return tmp_path
    path = tmp_path / "weights.pt"
    torch.save(make_net().state_dict(), path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("version https://git-lfs\n")
    elif kind == "foreign":
        torch.save([1, 2, 3], path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    elif kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        path.write_bytes(b"\xff" * 100)
    elif kind == "missing":
        return tmp_path / "wieghts.pt"
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "is damaged or of an unknown format"),
        ("empty", r"is empty \(0 bytes\)"),
        ("text", "is a pointer of Git LFS"),
        ("foreign", "holds no state dict .found list"),
        ("pickle", "holds no state dict .found pathlib.Path.touch; .* which was not run"),
        ("safetensors", "is damaged"),
        ("folder", f"has no {WEIGHTS}; name a finished run"),
        ("missing", "wieghts.pt does not exist; .* holds: weights.pt"),
    ],
)
def test_bad_file_raises_one_error_and_changes_nothing(kind, message, tmp_path):
    net = make_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(net, broken(tmp_path, kind))
    assert not (tmp_path / "ran").exists()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (make_net(classes=100), "it is for 10 classes; these data have 100"),
        (make_net(channels=3), "it is for 1 input channels or features, not 3"),
        (nn.Sequential(make_net(), nn.Linear(10, 10)), "missing in the file.*unknown to the net"),
    ],
)
def test_missing_and_unexpected_weights_are_listed(net, message, tmp_path):
    torch.save(make_net().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UserError, match=f"(?s)does not fit.*{message}"):
        load_weights(net, tmp_path / "weights.pt")


def test_error_names_the_net_of_a_run_folder(tmp_path):
    save_file(make_net().state_dict(), tmp_path / WEIGHTS)
    (tmp_path / "result.json").write_text(json.dumps({"student": "resnet20", "data": "digits"}))
    with pytest.raises(UserError, match="holds a student=resnet20 trained on digits"):
        load_weights(make_net(classes=3), tmp_path)
