"""Overhaul of feature distillation (Heo et al. 2019, ICCV), one response at a time."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract, altered, as_leaves
from support import gradient

from kd.errors import UserError
from kd.objectives.ofd import Overhaul, partial_distance
from kd.types import Outputs


def connected(connector, maps):
    """1×1 convolution and batch norm over the batch, of [B, C, H, W]."""
    weight = connector[0].weight.detach().double().numpy()[:, :, 0, 0]
    maps = np.einsum("oc,bchw->bohw", weight, maps)
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
    return (maps - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)


def distance(student, teacher):
    """Margin: mean of the channel's negative values; no cost at or below a goal ≤ 0."""
    total = 0.0
    for channel in range(teacher.shape[1]):
        values = teacher[:, channel].ravel()
        negative = [v for v in values if v < 0]
        margin = np.mean(negative) if negative else 0.0
        for s, t in zip(student[:, channel].ravel(), values, strict=True):
            goal = max(t, margin)
            if s > goal or goal > 0:
                total += (s - goal) ** 2
    return total / len(student)


class TestMaps(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (4, 2, 3), "stage3": (2, 2, 2)}
    teacher_taps: ClassVar = {"stage1": (5, 4, 4), "stage2": (4, 2, 3), "stage3": (3, 2, 2)}

    def make(self):
        return Overhaul(["stage1", "stage2", "stage3"])

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for tap, weight in (("stage1", 0.25), ("stage2", 0.5), ("stage3", 1.0)):
            ours = connected(objective.connectors[tap], student.taps[tap])
            total += weight * distance(ours, teacher.taps[tap])
        return total


class TestRectifiedTeacher(TestMaps):
    """Teacher taps behind the ReLU, where the margin is 0."""

    def outputs(self, shapes, batch, classes, scale=1.0):
        outputs = super().outputs(shapes, batch, classes, scale)
        if shapes is not self.teacher_taps:
            return outputs
        return Outputs(outputs.logits, {name: tap.relu() for name, tap in outputs.taps.items()})


class TestVectors(Contract):
    taps: ClassVar = {"stage1": (4,)}
    teacher_taps: ClassVar = {"stage1": (7,)}
    refuses_one_image = "more than 1 value per channel"

    def make(self):
        return Overhaul(["stage1"])

    def reference(self, student, teacher, target, objective):
        ours = connected(objective.connectors["stage1"], student.taps["stage1"][:, :, None, None])
        return distance(ours, teacher.taps["stage1"][:, :, None, None])


def test_responses_that_the_relu_maps_to_zero_cost_nothing():
    goal = torch.tensor([[2.0, -1.0, 0.0]])
    assert partial_distance(torch.tensor([[2.0, -5.0, -0.1]]), goal) == 0
    assert partial_distance(torch.tensor([[-1.0, -1.0, 0.0]]), goal) == 9
    assert partial_distance(torch.tensor([[3.0, -0.5, 0.5]]), goal) == 1 + 0.25 + 0.25


def test_margin_is_the_mean_negative_response_of_a_channel():
    objective, *_ = TestMaps().case()
    maps = torch.zeros(2, 5, 1, 2)
    maps[:, 0] = torch.tensor([[[-1.0, 2.0]], [[-3.0, 0.0]]])
    maps[:, 1] = 4.0
    assert objective.margin("stage1", maps).flatten().tolist() == pytest.approx([-2, 0, 0, 0, 0])


def margins_after(maps):
    torch.manual_seed(0)
    objective, *_ = TestMaps().case()
    return objective, [objective.margin("stage1", m).flatten() for m in maps]


def test_margin_converges_to_the_teachers_mean_negative_response():
    torch.manual_seed(1)
    shift = torch.tensor([0.0, 1.0, -1.0, 0.5, 3.0])[:, None, None]
    maps = [torch.randn(16, 5, 4, 4) + shift for _ in range(60)]
    _, found = margins_after(maps)
    values = torch.cat(maps)
    negative = torch.where(values < 0, values, torch.nan)
    expected = negative.transpose(0, 1).flatten(1).nanmean(1)
    first, last = (found[i] - expected for i in (0, -1))
    assert last[:4].abs().max() < 0.02
    assert last[:4].norm() < first[:4].norm()


def test_margin_is_in_the_state_dict_and_changes_in_training_only():
    torch.manual_seed(1)
    maps = torch.randn(4, 5, 4, 4)
    objective, (margin,) = margins_after([maps])
    again, *_ = TestMaps().case()
    again.load_state_dict(objective.state_dict())
    again.eval()
    torch.testing.assert_close(again.margin("stage1", 7 * maps).flatten(), margin)
    again.train()
    assert not torch.allclose(again.margin("stage1", 7 * maps).flatten(), margin)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((3, 8, 8), (5, 4, 4)), ((3, 2, 2), (5, 4, 4)), ((6,), (5, 4, 4)), ((3, 4, 4), (9,))],
)
def test_shapes_of_student_and_teacher_may_differ(student, teacher):
    shapes = {"taps": {"stage1": student}, "teacher_taps": {"stage1": teacher}}
    case = altered(TestMaps, **shapes, make=lambda: Overhaul(["stage1"]))
    objective, ours, theirs, batch = case.case()
    ours = as_leaves(ours, True)
    objective(ours, theirs, batch).backward()
    assert gradient(ours.taps["stage1"]).abs().sum() > 0


def test_empty_taps_and_sequences_raise():
    with pytest.raises(ValueError, match="no stage in common"):
        Overhaul([])
    case = altered(TestMaps, taps={**TestMaps.taps, "stage2": (4, 6)})
    with pytest.raises(UserError, match=r"ofd .*'stage2'.*\[6, 4, 6\].*\[6, 4, 2, 3\]"):
        case.case()
