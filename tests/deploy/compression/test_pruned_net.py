"""Channel-pruned students: saved, loaded, trained by methods; shapes of a stranger's file."""

import json
from typing import Any

import pytest
import torch
from pruned_nets import FAMILIES, SHAPE, randomised
from safetensors.torch import load_file
from support import built, configured
from test_rebuild import METADATA

import kd
from kd.build.given import GivenParts
from kd.config.compose import model_config, plain
from kd.deploy.compression.channels import remove_channels
from kd.deploy.finished_run import FinishedRun
from kd.io.tensors import safetensors_bytes
from kd.models.memory_format import is_channels_last
from kd.models.sizing import count_parameters
from kd.models.timm_net import timm_net
from kd.training.run import run


def written(folder, net, target, arguments, **changed):
    """Write a student of the digits with an architecture; returns its file."""
    facts = {"in_channels": 1, "image_size": 8, "num_classes": 10}
    metadata = METADATA | {
        "architecture": {"target": target, "arguments": facts | arguments},
        "class_names": list("0123456789"),
        "input_size": [8, 8],
        "channels_removed": True,
    }
    file = folder / "student.safetensors"
    text = json.dumps(metadata | changed)
    file.write_bytes(safetensors_bytes(net.state_dict(), {"kd": text}))
    return file


def resnet8(folder, net, **changed):
    arguments = {"depth": 8, "width": 0.5}
    return written(folder, net, "kd.models.resnet_cifar.resnet_cifar", arguments, **changed)


def pruned_resnet8(ratio=0.5):
    return remove_channels(randomised(built("resnet8", width=0.5)[0]), SHAPE, ratio).net


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pruned_student_is_loaded(name, tmp_path):
    arguments = plain(model_config(name).net) | FAMILIES[name]
    target = arguments.pop("_target_")
    net = remove_channels(randomised(built(name, **FAMILIES[name])[0]), SHAPE, 0.5).net
    student = kd.load(written(tmp_path, net, target, arguments))
    images = torch.randn(2, *SHAPE)
    assert torch.equal(student(images), net(images))
    # What the layers say of themselves is what torch-pruning has made of them.
    assert str(student.net) == str(net)
    assert not any(tensor.is_meta for tensor in student.buffers())


def test_a_pruned_net_of_timm_is_loaded(tmp_path):
    arguments = {"arch": "mobilenetv3_small_050", "image_size": 32}
    net = timm_net(1, 32, 10, arch="mobilenetv3_small_050").eval()
    net = remove_channels(net, (1, 32, 32), 0.5).net
    file = written(tmp_path, net, "kd.models.timm_net.timm_net", arguments)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(kd.load(file)(images), net(images))


def test_a_small_file_of_a_large_net_is_loaded(tmp_path):
    # The unpruned net has fifty times as many weights, which takes no memory.
    net = remove_channels(built("mlp800", hidden=(3000, 3000))[0], SHAPE, 0.98).net
    arguments = {"hidden": [3000, 3000], "dropout": 0.5}
    file = written(tmp_path, net, "kd.models.mlp.mlp", arguments)
    assert count_parameters(kd.load(file)) == count_parameters(net) < 10_000


@pytest.mark.parametrize("method", [pytest.param("kd", marks=pytest.mark.slow), "simkd"])
def test_a_method_trains_a_pruned_student(method, tmp_path):
    folder = tmp_path / "runs" / method
    options = [f"method={method}", "trainer.max_epochs=1", "channels_last=true"]
    cfg = configured(folder, tmp_path, *options)
    net = pruned_resnet8().to(memory_format=torch.channels_last)
    result = run(cfg, folder, GivenParts(student=net), overrides=options)
    finished = FinishedRun(folder)
    student = finished.student
    count = count_parameters(student)
    assert count == result["student/params"]
    assert method == "simkd" or count < 0.3 * count_parameters(built("resnet8", width=0.5)[0])
    assert is_channels_last(student)
    with torch.no_grad():
        right = [student(b.input).argmax(1) == b.target for b in finished.data.test_dataloader()]
    assert float(torch.cat(right).float().mean()) == pytest.approx(result["test/acc"], abs=1e-6)


def test_files_of_other_students_have_no_new_field(tmp_path):
    folder = tmp_path / "run"
    cfg = configured(folder, tmp_path, "method=ce", "trainer.max_epochs=1", teacher=())
    run(cfg, folder, GivenParts(student=built("resnet8", width=0.5)[0]))
    text = (folder / "student.safetensors").read_bytes()
    assert b"channels_removed" not in text
    assert kd.load(folder).metadata


def changed_shape(net, name, shape):
    state = net.state_dict()
    state[name] = torch.zeros(shape)
    return Weights(state)


class Weights:
    """A state dict in place of a net's."""

    def __init__(self, state) -> None:
        self.state = state

    def state_dict(self):
        return self.state


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("stem.0.weight", (5, 1, 3, 3), "do not fit the net"),
        ("stem.0.weight", (400, 1, 3, 3), "stem.0.weight has the shape"),
        ("stem.0.weight", (4, 1, 1, 1), "stem.0.weight has the shape"),
        ("stem.0.weight", (4, 9), "stem.0.weight has the shape"),
        ("stem.0.weight", (0, 1, 3, 3), "stem.0.weight has the shape"),
        ("stem.1.running_var", (3,), "the tensors of stem.1 have different sizes"),
        ("stem.1.num_batches_tracked", (1,), "stem.1.num_batches_tracked has the shape"),
        ("fc.weight", (9, 16), "do not fit the net"),
        ("fc.bias", (9,), "do not fit the net"),
        ("other", (2,), "does not fit the net"),
    ],
)
def test_shapes_of_a_stranger_are_refused(name, shape, said, tmp_path):
    file = resnet8(tmp_path, changed_shape(pruned_resnet8(), name, shape))
    with pytest.raises(kd.UserError, match=said):
        kd.load(file)


def test_fewer_classes_than_the_metadata_say_are_refused(tmp_path):
    state = pruned_resnet8().state_dict()
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:9], state["fc.bias"][:9]
    with pytest.raises(kd.UserError, match=r"logits have the shape \[2, 9\]"):
        kd.load(resnet8(tmp_path, Weights(state)))


def test_a_missing_tensor_is_named(tmp_path):
    state = pruned_resnet8().state_dict()
    del state["stage2.0.body.0.weight"]
    with pytest.raises(kd.UserError, match=r"stage2\.0\.body\.0\.weight is missing"):
        kd.load(resnet8(tmp_path, Weights(state)))


def test_without_the_field_the_shapes_must_be_those_of_the_architecture(tmp_path):
    file = resnet8(tmp_path, pruned_resnet8(), channels_removed=None)
    with pytest.raises(kd.UserError, match="does not fit the net"):
        kd.load(file)
    file = resnet8(tmp_path, pruned_resnet8(), channels_removed="yes")
    with pytest.raises(kd.UserError, match="channels_removed is not true, false or null"):
        kd.load(file)


def test_the_field_on_an_unpruned_student_changes_nothing(tmp_path):
    net: Any = randomised(built("resnet8", width=0.5)[0])
    file = resnet8(tmp_path, net)
    images = torch.randn(2, *SHAPE)
    assert torch.equal(kd.load(file)(images), net(images))
    assert load_file(file).keys() == net.state_dict().keys()
