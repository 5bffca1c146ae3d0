"""Scale-decoupled distillation (Wei et al. 2024) against loops, its weights and its base."""

import logging
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from linear_heads import LinearHeads
from support import gradient
from torch import nn

from kd.errors import UserError
from kd.objectives.dkd import dkd
from kd.objectives.kd import kd
from kd.objectives.nkd import nkd
from kd.objectives.regions import region_logits
from kd.objectives.sdd import ScaleDecoupled, sdd
from kd.objectives.setting import Setting
from kd.types import Outputs


def softmax(row, temperature=1.0):
    powers = np.exp((row - row.max()) / temperature)
    return powers / powers.sum()


def divergence(p, q):
    return float(np.sum(p * np.log(p / q)))


def region_loss(base, ours, theirs, y):
    """T = 4; 8 is the weight of the other classes."""
    if base == "kd":
        return 16 * divergence(softmax(theirs, 4.0), softmax(ours, 4.0))
    others = [softmax(np.delete(row, y), 4.0) for row in (theirs, ours)]
    if base == "dkd":
        labels = [softmax(row, 4.0)[y] for row in (theirs, ours)]
        binary = [np.array([label, 1 - label]) for label in labels]
        return 16 * (divergence(*binary) + 8 * divergence(*others))
    label = -softmax(theirs)[y] * np.log(softmax(ours)[y])
    return label - 8 * 16 * float(np.sum(others[0] * np.log(others[1])))


def regions(image, logits, head, scales):
    """One image's logits: its own, then a classifier's at every position, averaged by cells."""
    weight, bias = (p.detach().double().numpy() for p in (head.weight, head.bias))
    everywhere = np.einsum("kc,chw->khw", weight, image) + bias[:, None, None]
    found = [logits]
    for side in scales[1:]:
        step = image.shape[1] // side
        for i in range(side):
            for j in range(side):
                cell = everywhere[:, i * step : (i + 1) * step, j * step : (j + 1) * step]
                found.append(cell.mean((1, 2)))
    return found


class TestScaleDecoupled(LinearHeads):
    base = "kd"
    scales: ClassVar[tuple[int, ...]] = (1, 2, 4)  # that the maps allow

    def make(self):
        return ScaleDecoupled(base=self.base)

    def aligned(self, maps, objective):
        return maps

    def reference(self, student, teacher, target, objective):
        ours = self.aligned(student.taps["stage3"], objective)
        total, count = 0.0, 0
        for i, y in enumerate(target):
            z_s = regions(ours[i], student.logits[i], self.student_head, self.scales)
            maps = teacher.taps["stage3"][i]
            z_t = regions(maps, teacher.logits[i], self.teacher_head, self.scales)
            for a, b in zip(z_s, z_t, strict=True):
                consistent = (b.argmax() == y) == (z_t[0].argmax() == y)
                total += (1 if consistent else 2) * region_loss(self.base, a, b, y)
                count += 1
        return total / count


class TestDecoupledBase(TestScaleDecoupled):
    base = "dkd"


class TestNormalizedBase(TestScaleDecoupled):
    base = "nkd"
    at_teacher = None  # entropies


class TestOtherChannelsAndSmallerMap(TestScaleDecoupled):
    taps: ClassVar = {"stage3": (3, 8, 8)}
    teacher_taps: ClassVar = {"stage3": (6, 2, 2)}
    scales: ClassVar[tuple[int, ...]] = (1, 2)
    student_width = 3


class TestStudentThatWidensItsLastMap(TestScaleDecoupled):
    taps: ClassVar = {"stage3": (3, 4, 4)}
    teacher_taps: ClassVar = {"stage3": (6, 4, 4)}
    student_width = 7

    def aligned(self, maps, objective):
        weight = objective.align.weight.detach().double().numpy()[:, :, 0, 0]
        return np.einsum("oc,bchw->bohw", weight, maps)


def case(side=4):
    torch.manual_seed(0)
    heads = nn.Linear(4, 5), nn.Linear(6, 5)
    maps = torch.randn(3, 4, side, side), torch.randn(3, 6, side, side)
    student, teacher = (
        Outputs(head(each.mean((2, 3))).detach(), {"stage3": each})
        for head, each in zip(heads, maps, strict=True)
    )
    return student, teacher, Setting(5, torch.arange(10) % 5, *heads)


@pytest.mark.parametrize(
    ("base", "loss"),
    [
        ("kd", lambda s, t, y: kd(s, t, 3.0)),
        ("dkd", lambda s, t, y: dkd(s, t, y, 3.0, 1.0, 2.0)),
        ("nkd", lambda s, t, y: nkd(s, t, y, 3.0, 2.0)),
    ],
)
def test_one_scale_is_the_base(base, loss):
    student, teacher, setting = case()
    objective = ScaleDecoupled(scales=[1], temperature=3.0, base=base, other_weight=2.0)
    objective.build(student, teacher, setting)
    batch = make_batch(torch.tensor([0, 2, 4]))
    expected = loss(student.logits, teacher.logits, batch.target)
    torch.testing.assert_close(objective(student, teacher, batch), expected)


def test_the_whole_image_is_the_mean_of_the_regions():
    student, _, setting = case()
    head = setting.student_head
    found = region_logits(student.logits, student.taps["stage3"], head.weight, head.bias, [1, 2, 4])
    assert found.shape == (3, 1 + 4 + 16, 5)
    torch.testing.assert_close(found[:, 1:5].mean(1), student.logits)
    torch.testing.assert_close(found[:, 5:].mean(1), student.logits)


def test_regions_that_contradict_the_whole_image_weigh_more():
    """The teacher is right for image 0 and wrong for image 1; in region 1 both are reversed."""
    right, wrong = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 3.0, 0.0])
    teacher = torch.stack([torch.stack([right, wrong, right]), torch.stack([wrong, right, wrong])])
    target, size = torch.tensor([0, 0]), []
    for weight in (1.0, 2.0):
        student = torch.zeros(2, 3, 3, requires_grad=True)
        sdd(student, teacher, target, complementary=weight).backward()
        size.append(gradient(student))
    torch.testing.assert_close(
        size[1] / size[0], torch.tensor([1.0, 2, 1])[:, None].expand(2, 3, 3)
    )


def test_the_student_learns_where_the_teacher_sees_what():
    """Two maps with the same average: soft targets see no difference, regions do."""
    _, teacher, setting = case()
    mirrored = Outputs(teacher.logits, {"stage3": teacher.taps["stage3"].flip(3)})
    same = setting._replace(student_head=setting.teacher_head)
    batch, values = make_batch(torch.tensor([0, 2, 4])), []
    for scales in ([1], [1, 2]):
        objective = ScaleDecoupled(scales=scales)
        objective.build(mirrored, teacher, same)
        values.append(objective(mirrored, teacher, batch).item())
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[1] > 0.01


def test_the_students_head_is_trained_and_is_no_part_of_the_objective():
    student, teacher, setting = case()
    objective = ScaleDecoupled()
    objective.build(student, teacher, setting)
    objective(student, teacher, make_batch(torch.arange(3))).backward()
    assert gradient(setting.student_head.weight).abs().sum() > 0
    assert setting.teacher_head.weight.grad is None
    assert [p for p in objective.parameters() if p.requires_grad] == []
    assert sorted(objective.state_dict()) == ["teacher_bias", "teacher_weight"]


def test_scales_above_the_map_are_left_out_with_a_line(caplog):
    student, teacher, setting = case(side=2)
    objective = ScaleDecoupled()
    with caplog.at_level(logging.WARNING):
        objective.build(student, teacher, setting)
    assert objective.scales == [1, 2]
    assert "sdd leaves out the scales [4]" in caplog.text
    assert "method.scales=[1,2]" in caplog.text


def test_what_cannot_be_read_is_refused():
    student, teacher, setting = case()
    deep = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 5))
    with pytest.raises(UserError, match=r"(?s)sdd reads.*the student's classifier.*Sequential"):
        ScaleDecoupled().build(student, teacher, setting._replace(student_head=deep))
    with pytest.raises(UserError, match=r"in_features=7.*'stage3', a map \[3, 6, 4, 4\]"):
        ScaleDecoupled().build(student, teacher, setting._replace(teacher_head=nn.Linear(7, 5)))
    vector = Outputs(student.logits, {"stage3": torch.zeros(3, 4)})
    with pytest.raises(UserError, match=r"sdd needs maps.*'stage3'; the student has \[3, 4\]"):
        ScaleDecoupled().build(vector, teacher, setting)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": [2, 4]}, r"scales must have 1 and whole numbers.*got \[2, 4\]"),
        ({"scales": [1, 2.5]}, r"scales must have 1 and whole numbers.*got \[1, 2.5\]"),
        ({"scales": [1, 2, 2]}, r"scales must have 1 .*each once, got \[1, 2, 2\]"),
        ({"complementary": -1.0}, "complementary must be ≥ 0, got -1.0"),
        ({"other_weight": -1.0}, "other_weight must be ≥ 0, got -1.0"),
        ({"base": "mse"}, "base must be one of .*got 'mse'"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        ScaleDecoupled(**options)
