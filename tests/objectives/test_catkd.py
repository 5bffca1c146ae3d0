"""Guo et al. 2023: class activation maps."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from linear_heads import LinearHeads
from torch import nn

from kd.errors import UserError
from kd.objectives.catkd import ClassAttention, class_map_distance, class_maps
from kd.objectives.setting import Setting
from kd.types import Outputs


def activation(image, weight, grid):
    """One image's unit class maps [K, grid²]: cell averages of every class's weighted channels."""
    channels, height, width = image.shape
    rows, columns = height // grid, width // grid
    maps = []
    for row in weight:
        seen = sum(row[c] * image[c] for c in range(channels))
        cells = [
            seen[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].mean()
            for i in range(grid)
            for j in range(grid)
        ]
        maps.append(np.array(cells) / np.sqrt(np.sum(np.square(cells))))
    return maps


def distance(student, teacher, weights, grid):
    total, count = 0.0, 0
    for images in zip(student, teacher, strict=True):
        ours, theirs = (activation(m, w, grid) for m, w in zip(images, weights, strict=True))
        for a, b in zip(ours, theirs, strict=True):
            total += ((a - b) ** 2).sum()
            count += 1
    return total / count


class TestClassAttention(LinearHeads):
    grid = 2

    def make(self):
        return ClassAttention()

    def reference(self, student, teacher, target, objective):
        ours = self.aligned(student.taps["stage3"], objective)
        heads = (self.student_head, self.teacher_head)
        weights = [head.weight.detach().double().numpy() for head in heads]
        return distance(ours, teacher.taps["stage3"], weights, self.grid)

    def aligned(self, maps, objective):
        return maps


class TestOtherChannelsAndSize(TestClassAttention):
    taps: ClassVar = {"stage3": (3, 8, 8)}
    teacher_taps: ClassVar = {"stage3": (6, 4, 4)}
    student_width = 3


class TestStudentThatWidensItsLastMap(TestClassAttention):
    taps: ClassVar = {"stage3": (3, 4, 4)}
    teacher_taps: ClassVar = {"stage3": (6, 4, 4)}
    student_width = 7

    def aligned(self, maps, objective):
        weight = objective.align.weight.detach().double().numpy()[:, :, 0, 0]
        return np.einsum("oc,bchw->bohw", weight, maps)


class TestFewerPositionsThanCells(TestOtherChannelsAndSize):
    teacher_taps: ClassVar = {"stage3": (6, 2, 2)}

    def make(self):
        return ClassAttention(grid=4)


def case():
    torch.manual_seed(0)
    heads = nn.Linear(4, 5), nn.Linear(6, 5)
    maps = torch.randn(3, 6, 4, 4)
    teacher = Outputs(heads[1](maps.mean((2, 3))).detach(), {"stage3": maps})
    student = Outputs(torch.randn(3, 5), {"stage3": torch.randn(3, 4, 4, 4)})
    return student, teacher, Setting(5, torch.arange(10) % 5, *heads)


def test_the_students_head_is_read_live_and_trained_and_is_no_part_of_the_objective():
    student, teacher, setting = case()
    objective = ClassAttention()
    objective.build(student, teacher, setting)
    batch = make_batch(torch.arange(3))
    before = objective(student, teacher, batch)
    before.backward()
    assert setting.student_head.weight.grad.abs().sum() > 0
    assert setting.teacher_head.weight.grad is None
    assert list(objective.parameters()) == []
    assert list(objective.state_dict()) == ["teacher_weight"]
    with torch.no_grad():
        setting.student_head.weight.add_(torch.randn(5, 4))
        setting.teacher_head.weight.zero_()
    after = objective(student, teacher, batch)
    assert after.item() != pytest.approx(before.item(), rel=1e-3)
    assert objective.teacher_weight.abs().sum() > 0


def test_scale_of_a_class_does_not_matter_and_its_sign_does():
    torch.manual_seed(0)
    maps, weight = torch.randn(2, 4, 6, 6), torch.randn(5, 4)
    theirs = class_maps(maps, weight, (2, 2))
    scaled = class_maps(3 * maps, weight * torch.rand(5, 1).add(1), (2, 2))
    assert class_map_distance(scaled, theirs).item() == pytest.approx(0, abs=1e-6)
    opposite = class_maps(maps, -weight, (2, 2))
    assert class_map_distance(opposite, theirs).item() == pytest.approx(4, rel=1e-5)


def test_the_average_of_a_class_map_is_the_logit_without_bias():
    """The identity that class activation maps rest on: pooling and classifier commute."""
    torch.manual_seed(0)
    maps, head = torch.randn(2, 4, 6, 6), nn.Linear(4, 5, bias=False)
    unit = class_maps(maps, head.weight, (1, 1))
    torch.testing.assert_close(unit[:, :, 0], head(maps.mean((2, 3))).sign())


def test_what_cannot_be_read_is_refused():
    student, teacher, setting = case()
    deep = nn.Sequential(nn.ReLU(), nn.Linear(4, 5))
    with pytest.raises(UserError, match=r"(?s)the student's classifier.*student has Sequential"):
        ClassAttention().build(student, teacher, setting._replace(student_head=deep))
    with pytest.raises(UserError, match="none is known"):
        ClassAttention().build(student, teacher, setting._replace(student_head=None))
    with pytest.raises(UserError, match=r"in_features=7.*'stage3', a map \[3, 6, 4, 4\]"):
        ClassAttention().build(student, teacher, setting._replace(teacher_head=nn.Linear(7, 5)))
    vector = Outputs(student.logits, {"stage3": torch.zeros(3, 4)})
    with pytest.raises(UserError, match=r"catkd needs maps.*'stage3'; the student has \[3, 4\]"):
        ClassAttention().build(vector, teacher, setting)
    with pytest.raises(ValueError, match="grid must be a whole number ≥ 1, got 0"):
        ClassAttention(grid=0)
