"""Reused teacher classifier (Chen et al. 2022) against NumPy float64."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract
from torch import nn

from kd.errors import UserError
from kd.objectives.setting import Setting
from kd.objectives.simkd import ReusedClassifier
from kd.types import Outputs


def projected(maps, layers):
    """Three padded convolutions, each with batch norm (batch statistics) and ReLU, in float64."""
    for convolution in layers[::3]:
        weight = convolution.weight.detach().double().numpy()
        size, (height, width) = weight.shape[2], maps.shape[2:]
        border = size // 2
        padded = np.pad(maps, ((0, 0), (0, 0), (border, border), (border, border)))
        maps = sum(
            np.einsum(
                "oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width]
            )
            for i in range(size)
            for j in range(size)
        )
        centred = maps - maps.mean((0, 2, 3), keepdims=True)
        maps = np.maximum(centred / np.sqrt(maps.var((0, 2, 3), keepdims=True) + 1e-5), 0)
    return maps


class MapContract(Contract):
    """Teachers whose head has the average of their last map as input, as SimKD needs."""

    def setting(self, classes):
        torch.manual_seed(5)
        self.head = nn.Linear(self._teacher_shapes["stage3"][0], classes)
        targets = torch.arange(self.pool) % classes
        return Setting(classes, targets, None, self.head)

    def outputs(self, shapes, batch, classes, scale=1.0):
        outputs = super().outputs(shapes, batch, classes, scale)
        pooled = outputs.taps["stage3"].mean((2, 3))
        if pooled.shape[1] != self.head.in_features:
            return outputs
        return Outputs(self.head(pooled).detach(), outputs.taps)


class TestSameShape(MapContract):
    taps: ClassVar = {"stage3": (4, 3, 3)}
    at_teacher = None  # the projector is not the identity

    def make(self):
        return ReusedClassifier()

    def reference(self, student, teacher, target, objective):
        ours = projected(student.taps["stage3"], list(objective.projector))
        return ((ours - teacher.taps["stage3"]) ** 2).mean()


class TestSmallerTeacherMap(MapContract):
    taps: ClassVar = {"stage3": (3, 6, 6)}
    teacher_taps: ClassVar = {"stage3": (8, 2, 2)}

    def make(self):
        return ReusedClassifier(reduction=4)

    def reference(self, student, teacher, target, objective):
        pooled = student.taps["stage3"].reshape(6, 3, 2, 3, 2, 3).mean((3, 5))
        assert objective.projector[0].out_channels == 2
        return ((projected(pooled, list(objective.projector)) - teacher.taps["stage3"]) ** 2).mean()


class TestLargerTeacherMap(MapContract):
    taps: ClassVar = {"stage3": (3, 2, 2)}
    teacher_taps: ClassVar = {"stage3": (5, 6, 6)}

    def make(self):
        return ReusedClassifier()

    def reference(self, student, teacher, target, objective):
        pooled = teacher.taps["stage3"].reshape(6, 5, 2, 3, 2, 3).mean((3, 5))
        return ((projected(student.taps["stage3"], list(objective.projector)) - pooled) ** 2).mean()


def case(student=(3, 4, 4), teacher=(6, 2, 2), head=None):
    torch.manual_seed(0)
    head = head or nn.Linear(teacher[0], 5)
    maps = torch.randn(8, *teacher).relu()
    theirs = Outputs(head(maps.mean((2, 3))).detach(), {"stage3": maps})
    ours = Outputs(torch.randn(8, 5), {"stage3": torch.randn(8, *student)})
    return ours, theirs, Setting(5, torch.arange(10) % 5, None, head)


def test_perfect_projection_gives_the_teachers_logits():
    student, teacher, setting = case(student=(6, 2, 2))
    objective = ReusedClassifier()
    objective.build(student, teacher, setting)
    objective.projector = nn.Identity()
    torch.testing.assert_close(objective.inference_logits(teacher), teacher.logits)
    assert not torch.allclose(objective.inference_logits(student), student.logits, atol=0.1)


def test_logits_are_the_teachers_head_on_the_average_of_the_projected_map():
    student, teacher, setting = case()
    objective = ReusedClassifier()
    objective.build(student, teacher, setting)
    pooled = student.taps["stage3"].double().numpy().reshape(8, 3, 2, 2, 2, 2).mean((3, 5))
    average = projected(pooled, list(objective.projector.children())).mean((2, 3))
    weight, bias = (p.detach().double().numpy() for p in setting.teacher_head.parameters())
    logits = objective.inference_logits(student).detach().double()
    torch.testing.assert_close(logits, torch.from_numpy(average @ weight.T + bias))


def test_head_is_frozen_in_evaluation_mode_and_projector_is_trained():
    student, teacher, setting = case(head=nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 5)).eval())
    objective = ReusedClassifier()
    objective.build(student, teacher, setting)
    objective.train()
    assert objective.projector.training
    assert not any(module.training for module in objective.head.modules())
    trained = {k for k, p in objective.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("projector.") for name in trained)
    assert {"head.1.weight", "head.1.bias"} <= objective.state_dict().keys()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (nn.Linear(7, 5), r"in_features=7.*'stage3', a map \[8, 6, 2, 2\], \[8, 6\]"),
        (nn.Linear(6, 5), r"does not make its logits \[8, 5\] of the average of tap 'stage3'"),
        (None, "none is known: the tap 'embedding' must be the input"),
    ],
)
def test_head_with_another_input_raises(head, message):
    student, teacher, setting = case()
    with pytest.raises(UserError, match=message):
        ReusedClassifier().build(student, teacher, setting._replace(teacher_head=head))


def test_invalid_reduction_and_vectors_raise():
    with pytest.raises(ValueError, match="reduction must be a whole number ≥ 1, got 0"):
        ReusedClassifier(reduction=0)
    student, teacher, setting = case()
    vector = Outputs(student.logits, {"stage3": torch.zeros(8, 3)})
    with pytest.raises(UserError, match=r"simkd needs maps.*'stage3'; the student has \[8, 3\]"):
        ReusedClassifier().build(vector, teacher, setting)
