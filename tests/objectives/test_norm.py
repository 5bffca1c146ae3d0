"""Liu et al. 2023, NORM: N segments of the expanded student map against the teacher's map."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from safetensors.torch import load_file
from support import accuracy, built, configured, gradient, softmax
from torch import nn

import kd
from kd.errors import UserError
from kd.objectives.norm import NToOne, norm
from kd.objectives.setting import Setting
from kd.training.run import run
from kd.types import Outputs


def mixed(maps, layer):
    """1×1 convolution and batch norm on batch statistics, in float64."""
    weight = layer[0].weight.detach().double().numpy()[:, :, 0, 0]
    mapped = np.einsum("oc,bchw->bohw", weight, maps)
    mean, variance = mapped.mean((0, 2, 3), keepdims=True), mapped.var((0, 2, 3), keepdims=True)
    return (mapped - mean) / np.sqrt(variance + 1e-5)


class TestSameSize(Contract):
    taps: ClassVar = {"stage3": (4, 3, 3), "embedding": (5,)}
    teacher_taps: ClassVar = {"stage3": (3, 3, 3)}

    def make(self):
        return NToOne("stage3", segments=2, beta=0.7)

    def setting(self, classes):
        self.head = nn.Linear(5, classes)
        return Setting(classes, torch.arange(self.pool) % classes, self.head)

    def pooled(self, maps, size):
        return maps

    def reference(self, student, teacher, target, objective):
        wide = mixed(student.taps["stage3"], objective.expand)
        added = mixed(wide, objective.contract).mean((2, 3))
        weight, bias = (p.detach().double().numpy() for p in self.head.parameters())
        p = softmax((student.taps["embedding"] + added) @ weight.T + bias)
        labels = -np.log(p[np.arange(len(p)), target]).mean()
        theirs = self.pooled(teacher.taps["stage3"], 3)
        wide = self.pooled(wide, 3)
        count = theirs.shape[1]
        parts = [wide[:, n * count : (n + 1) * count] for n in range(2)]
        return labels + 0.7 * sum(((part - theirs) ** 2).mean() for part in parts)


class TestLargerTeacherMap(TestSameSize):
    teacher_taps: ClassVar = {"stage3": (3, 6, 6)}

    def pooled(self, maps, size):
        """Maximum of each of size × size blocks."""
        side = maps.shape[2] // size
        return maps.reshape(*maps.shape[:2], size, side, size, side).max((3, 5))


class Student(nn.Sequential):
    """Images [B, 1, 6, 6] -> logits; the average of the map is the head's input."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(2), nn.Linear(4, 5))

    def outputs(self, images):
        maps = self[1](self[0](images))
        embedding = maps.mean((2, 3))
        return Outputs(self[3](embedding), {"stage3": maps, "embedding": embedding})


def case(segments=3):
    torch.manual_seed(0)
    net, images = Student(), torch.randn(12, 1, 6, 6)
    theirs = Outputs(torch.zeros(12, 5), {"stage3": torch.randn(12, 6, 4, 4)})
    objective = NToOne(segments=segments)
    with torch.no_grad():
        outputs = net.outputs(images)
    objective.build(outputs, theirs, Setting(5, torch.arange(12) % 5, net[3]))
    return objective, net, images, theirs


def test_every_segment_is_matched_with_the_whole_map():
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 4, 4)
    assert norm(teacher.repeat(1, 5, 1, 1), teacher).item() == 0
    ours = teacher.repeat(1, 5, 1, 1)
    ours[:, 6:9] += 2
    assert norm(ours, teacher).item() == pytest.approx(4)
    assert norm(ours[:, 6:9], teacher).item() == pytest.approx(4)


def test_deployed_logits_are_those_that_the_labels_train():
    objective, net, images, theirs = case()
    batch = make_batch(torch.arange(12) % 5)
    outputs = net.outputs(images)
    objective.beta = 0.0
    value = objective(outputs, theirs, batch)
    value.backward()
    assert gradient(net[3].weight).abs().sum() > 0
    expected = nn.functional.cross_entropy(objective.inference_logits(outputs), batch.target)
    torch.testing.assert_close(value, expected)
    assert not torch.allclose(objective.inference_logits(outputs), outputs.logits, atol=0.1)
    assert objective.changes_student
    assert not any(name.startswith("_head") for name in objective.state_dict())


def test_both_layers_merge_into_the_head():
    """The paper's claim: linear layers cost nothing at inference."""
    objective, net, images, theirs = case()
    batch = make_batch(torch.arange(12) % 5)
    for _ in range(3):  # running statistics that differ from their first values
        objective(net.outputs(images), theirs, batch)
    objective.eval()
    with torch.no_grad():
        outputs = net.outputs(images)
        expected = objective.inference_logits(outputs)
        assert not torch.allclose(outputs.logits, expected, atol=0.01)
        objective.merge(outputs)
        torch.testing.assert_close(net.outputs(images).logits, expected, atol=1e-5, rtol=1e-5)
    assert not objective.changes_student


def test_parts_that_are_no_linear_layer_together_are_not_merged():
    objective, net, images, _ = case()
    objective.eval()
    outputs = net.outputs(images)
    largest = outputs.taps | {"embedding": outputs.taps["stage3"].amax((2, 3))}
    before = net[3].weight.clone()
    objective.merge(Outputs(outputs.logits, largest))
    nn.utils.parametrize.register_parametrization(net[3], "weight", nn.Softplus(), unsafe=True)
    objective.merge(outputs)
    assert objective.changes_student
    assert net[3].parametrizations["weight"].original.equal(before)


def test_the_head_is_run_without_its_hooks():
    """Those of a tapped head would record the tap once more."""
    objective, net, images, theirs = case()
    seen: list[int] = []
    outputs = net.outputs(images)
    net[3].register_forward_pre_hook(lambda *_: seen.append(1))
    objective(outputs, theirs, make_batch(torch.arange(12) % 5))
    objective.inference_logits(outputs)
    assert seen == []


def test_a_run_leaves_a_plain_student(output, tmp_path):
    """It has the layers and the parameters of the net alone, and the tested accuracy."""
    cfg = configured(tmp_path, output, "method=norm", "method.segments=2", "trainer.max_epochs=2")
    result = run(cfg, tmp_path)
    weights = load_file(tmp_path / "student.safetensors")
    assert accuracy(weights) == pytest.approx(result["test/acc"])
    net, _ = built("resnet8", width=0.5)
    assert result["student/params"] == sum(p.numel() for p in net.parameters())
    student = kd.load(tmp_path)
    assert student.net.state_dict().keys() == net.state_dict().keys()


def test_descent_brings_every_segment_to_the_teachers_map():
    objective, net, images, theirs = case()
    batch = make_batch(torch.arange(12) % 5)
    # A teacher whose map is a linear one of the student's, normalised as a segment is
    with torch.no_grad():
        maps = torch.einsum("oc,bchw->bohw", torch.randn(6, 4), net.outputs(images).taps["stage3"])
        theirs.taps["stage3"] = nn.BatchNorm2d(6)(maps)
    optimizer = torch.optim.Adam(objective.parameters(), 0.02)

    def distances():
        with torch.no_grad():
            wide = objective.expanded(net.outputs(images)).split(6, dim=1)
        return [norm(part, theirs.taps["stage3"]).item() for part in wide]

    assert min(distances()) > 0.5
    for _ in range(150):
        optimizer.zero_grad()
        objective(net.outputs(images), theirs, batch).backward()
        optimizer.step()
    assert max(distances()) < 0.1


def test_a_student_without_a_head_is_refused():
    outputs = Outputs(
        torch.zeros(2, 5), {"stage3": torch.zeros(2, 3, 4, 4), "embedding": torch.zeros(2, 3)}
    )
    with pytest.raises(UserError, match=r"'embedding' \[2, 3\] is not .*student\.taps\.embedding"):
        NToOne().build(outputs, outputs, Setting(5, torch.arange(10) % 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": 0}, "segments must be a whole number ≥ 1, got 0"),
        ({"beta": -1.0}, r"beta must be ≥ 0, got -1\.0"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        NToOne("stage3", **options)
