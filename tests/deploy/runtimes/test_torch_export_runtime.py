"""Files of torch.export in torch, also those that a stranger made to run code."""

import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from hostile_archives import LEFT_OUT, REAL, REFUSED, pickled_inputs, read, write
from support import within
from torch import nn

from kd.deploy.exporting.description import Description
from kd.deploy.exporting.exported_net import ExportedNet
from kd.deploy.exporting.torch_export_file import write_torch_export
from kd.deploy.runtimes.open import open_model_file
from kd.errors import UserError

EXAMPLE = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
ABOUT: Description = {
    "format": 1, "student": "small", "method": "kd", "task": "image_classification",
    "class_names": ["a", "b", "c"], "input_size": [4, 4], "channels": 1, "mean": [0.5],
    "std": [0.25], "precision": "fp32", "accuracy": 0.5, "kd_version": "1", "git_commit": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    small = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    return ExportedNet(small, [0.5], [0.25])


@pytest.fixture(scope="module")
def good(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "net.pt2"
    write_torch_export(net, EXAMPLE, ABOUT, path)
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)


def expected(net, images):
    with torch.no_grad():
        return net(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_logits_are_those_of_the_net_for_any_batch_size(good, net, images, count):
    file = open_model_file(good)
    assert file.description == ABOUT
    np.testing.assert_allclose(file.logits(images[:count]), expected(net, images[:count]), 1e-6)


def test_the_file_names_no_path_of_this_machine(good):
    content = good.read_bytes()
    assert b".py" not in content
    assert str(good.parent).encode() not in content


@pytest.mark.parametrize("attack", REFUSED)
def test_a_file_that_would_run_code_is_refused(attack, good, tmp_path):
    marker, members = tmp_path / "ran", read(good)
    REFUSED[attack](members, marker)
    bad = write(members, tmp_path / "bad.pt2")
    with within(20), pytest.raises(UserError, match=r"bad\.pt2 is no model of torch\.export"):
        open_model_file(bad)
    assert not marker.exists()


@pytest.mark.parametrize("attack", LEFT_OUT)
def test_parts_that_would_run_code_are_left_out(attack, good, net, images, tmp_path):
    marker, members = tmp_path / "ran", read(good)
    LEFT_OUT[attack](members, marker)
    file = open_model_file(write(members, tmp_path / "bad.pt2"))
    np.testing.assert_allclose(file.logits(images), expected(net, images), 1e-6)
    assert not marker.exists()
    assert "this" not in sys.modules


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attack", REAL)
def test_torch_alone_runs_the_code(attack, good, tmp_path, caplog):
    """Or the attacks above would show nothing."""
    marker, members = tmp_path / "ran", read(good)
    (REFUSED | LEFT_OUT)[attack](members, marker)
    try:
        torch.export.load(write(members, tmp_path / "bad.pt2"))
    except Exception as error:
        print(error)
    assert marker.exists()


def test_the_older_format_is_refused(good, tmp_path):
    members = {"version": b"8.20", "serialized_exported_program.json": b"{}"}
    inputs: dict[str, bytes] = {}
    pickled_inputs(inputs, tmp_path / "ran")
    for part in ("state_dict", "constants", "example_inputs"):
        members[f"serialized_{part}.pt"] = inputs["data/sample_inputs/model.pt"]
    with pytest.raises(UserError, match="is no model"):
        open_model_file(write(members, tmp_path / "bad.pt2", root=""))
    assert not (tmp_path / "ran").exists()


def test_a_compressed_archive_is_refused(good, tmp_path):
    path = tmp_path / "bad.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data/weights/weight_0", bytes(10**7))
    with pytest.raises(UserError, match="unpacks to more than its size"):
        open_model_file(path)


@pytest.mark.parametrize("part", ["archive", "graph", "weights"])
def test_damage_is_one_message(part, good, tmp_path):
    path, content, members = tmp_path / "bad.pt2", good.read_bytes(), read(good)
    if part == "archive":
        path.write_bytes(content[: len(content) // 2])
    elif part == "graph":
        write({**members, "models/model.json": b'{"graph_module": 3}'}, path)
    else:
        write({**members, "data/weights/weight_0": b""}, path)
    with pytest.raises(UserError, match=r"bad\.pt2"):
        open_model_file(path)


def test_a_program_that_is_no_classifier_is_refused(tmp_path):
    path = tmp_path / "bad.pt2"
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(3, 2),))
    with io.BytesIO() as buffer:
        torch.export.save(program, buffer)
        path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="no classifier of images"):
        open_model_file(path)


def test_other_suffixes_and_missing_files_are_named(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match=r"suffix '\.txt'; valid: \.onnx, \.pt2"):
        open_model_file(tmp_path / "a.txt")
    with pytest.raises(UserError, match="does not exist"):
        open_model_file(tmp_path / "b.onnx")
