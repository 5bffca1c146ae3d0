"""`kd.load`: the student of a run as a module."""

import copy
import io
import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from commands import ROOT
from omegaconf import open_dict
from safetensors import safe_open
from safetensors.torch import load_file
from support import TwoStages, built, configured
from torch import nn

import kd
from kd.build.data import build_data
from kd.build.given import GivenParts, describe_net
from kd.io.provenance import git_commit
from kd.io.tensors import safetensors_bytes
from kd.training.run import run


@pytest.fixture(scope="module")
def finished(output, tmp_path_factory):
    """Folder, result and config of a short run."""
    folder = tmp_path_factory.mktemp("finished")
    cfg = configured(folder, output, "method=kd")
    return folder, run(cfg, folder), cfg


@pytest.fixture(scope="module")
def test_set(finished):
    """The test images as uint8 and as the run normalised them, and their labels."""
    data: Any = build_data(finished[2].copy())
    batches = list(data.test_dataloader())
    images = torch.cat([batch.input for batch in batches])
    return data.arrays.test_inputs, images, data.test_targets


@torch.no_grad()
def accuracy(student, images, targets):
    return (student(images).argmax(1) == targets).float().mean().item()


def test_uint8_and_normalised_images_give_the_accuracy_of_result_json(finished, test_set):
    folder, result, _ = finished
    raw, normalised, targets = test_set
    student = kd.load(folder)
    assert not student.training
    assert raw.dtype == torch.uint8
    assert accuracy(student, raw, targets) == result["test/acc"]
    assert accuracy(student, normalised, targets) == result["test/acc"]
    assert torch.equal(student.preprocess(raw), normalised)


def test_a_process_with_torch_and_kd_alone_gives_the_accuracy(finished, test_set, tmp_path):
    raw, _, targets = test_set
    torch.save((raw, targets), tmp_path / "test.pt")
    code = f"""
import sys, torch, kd
images, targets = torch.load({str(tmp_path / "test.pt")!r})
student = kd.load({str(finished[0] / "student.safetensors")!r})
with torch.no_grad():
    print((student(images).argmax(1) == targets).float().mean().item())
heavy = {{"hydra", "omegaconf", "lightning", "torchmetrics", "torchvision", "sklearn"}}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split("\n")[:2] == [repr(finished[1]["test/acc"]), "[]"]


def test_the_metadata_describe_the_student(finished, test_set):
    student = kd.load(finished[0])
    cfg, net = finished[2], student.metadata
    assert net is not None
    assert net["architecture"] == {
        "target": "kd.models.resnet_cifar.resnet_cifar",
        "arguments": {"depth": 8, "width": 0.5, "channels": [16, 16, 32, 64]}
        | {"in_channels": 1, "image_size": 8, "num_classes": 10},
    }
    assert (net["channels"], net["input_size"]) == (1, [8, 8])
    assert net["mean"] == pytest.approx([cfg.data.mean[0]])
    assert net["std"] == pytest.approx([cfg.data.std[0]])
    assert (net["method"], net["task"]) == ("kd", "image_classification")
    assert (net["kd_version"], net["git_commit"]) == (kd.__version__, git_commit())
    assert student.class_names == list("0123456789")
    assert student.task == "image_classification"


def test_the_file_keeps_its_checksums(finished):
    with safe_open(finished[0] / "student.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata.keys() == {"kd", "checksums"}
    assert json.loads(metadata["kd"])["format"] == 1


def test_taps_record_a_loaded_student(finished, test_set):
    student = kd.load(finished[0])
    taps = kd.Taps(student, student.taps, ["stage1", "embedding"])
    outputs = taps.outputs(test_set[1][:3])
    assert outputs.taps["stage1"].shape == (3, 8, 8, 8)
    assert outputs.taps["embedding"].shape[0] == 3
    assert taps.head is student.net.get_submodule("fc")


def test_the_state_dict_has_the_keys_of_the_net(finished):
    student = kd.load(finished[0])
    saved = load_file(finished[0] / "student.safetensors")
    assert student.state_dict().keys() == saved.keys()
    net, _ = built("resnet8", width=0.5)
    net.load_state_dict(student.state_dict())
    changed = {name: value + 1 for name, value in saved.items()}
    student.load_state_dict(changed)
    assert all(torch.equal(value, changed[name]) for name, value in student.state_dict().items())


def test_a_student_inside_another_module_saves_and_loads(finished):
    outer = nn.Sequential(kd.load(finished[0]), nn.Linear(10, 2))
    state = {name: torch.zeros_like(value) for name, value in outer.state_dict().items()}
    assert "0.fc.weight" in state
    outer.load_state_dict(state)
    assert not any(value.any() for value in outer.state_dict().values())


def test_a_copy_and_a_pickled_student_compute_the_same(finished, test_set):
    student, images = kd.load(finished[0]), test_set[0][:4]
    file = io.BytesIO()
    torch.save(student, file)
    file.seek(0)
    for other in (copy.deepcopy(student), torch.load(file, weights_only=False)):
        assert torch.equal(other(images), student(images))
        assert other.state_dict().keys() == student.state_dict().keys()


def test_the_module_says_which_images_it_takes(finished):
    student = kd.load(finished[0])
    assert student.accepts == ("uint8", "normalised floating point")
    assert "uint8 or normalised floating point [B, 1, 8, 8]" in repr(student)
    assert "uint8" in (student.forward.__doc__ or "")
    with pytest.raises(kd.UserError, match=r"images must be uint8 or .* got torch\.int64"):
        student(torch.zeros(1, 1, 8, 8, dtype=torch.int64))
    with pytest.raises(kd.UserError, match=r"preprocess takes uint8 images, got torch\.float32"):
        student.preprocess(torch.zeros(1, 1, 8, 8))


def test_loading_leaves_the_random_generator_alone(finished):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    kd.load(finished[0])
    assert torch.equal(torch.rand(3), expected)


def test_a_given_net_is_loaded_where_no_constructor_builds_it(output, tmp_path):
    net = TwoStages()
    net.fc = nn.Linear(5, 10)
    cfg = configured(tmp_path, output, "method=ce", "trainer.max_epochs=1", teacher=())
    with open_dict(cfg):
        cfg.student.net = describe_net(net)
        cfg.student.taps = {"stage1": "stage1"}
    result = run(cfg, tmp_path, GivenParts(student=net))
    with pytest.raises(kd.UserError, match=r"given to the run as a module.*net=MyNet\(\)"):
        kd.load(tmp_path)
    other = TwoStages()
    other.fc = nn.Linear(5, 10)
    student = kd.load(tmp_path, net=other)
    assert student.net is other
    data: Any = build_data(cfg)
    assert accuracy(student, data.arrays.test_inputs, data.test_targets) == result["test/acc"]


def test_a_student_that_its_method_changes_is_not_rebuilt(output, tmp_path):
    cfg = configured(tmp_path, output, "method=simkd", "trainer.max_epochs=1")
    run(cfg, tmp_path)
    with pytest.raises(kd.UserError, match=r"method=simkd predicts with parts of its own"):
        kd.load(tmp_path)


def test_plain_weights_need_a_net(tmp_path):
    file = tmp_path / "plain.safetensors"
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    file.write_bytes(safetensors_bytes(net.state_dict()))
    with pytest.raises(kd.UserError, match=r"does not say of which net.*net=MyNet\(\)"):
        kd.load(file)
    student = kd.load(file, net=nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    assert student.accepts == ("normalised floating point",)
    images = torch.rand(3, 1, 2, 2)
    assert torch.equal(student(images), net(images))
    with pytest.raises(kd.UserError, match="does not say how its images were normalised"):
        student(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(kd.UserError, match=r"no student\.safetensors in the folder"):
        kd.load(tmp_path)
    with pytest.raises(kd.UserError, match="neither a run's folder nor a weights file"):
        kd.load(tmp_path / "absent")
