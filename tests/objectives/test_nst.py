"""Huang & Wang 2017, by loops over all pairs of channels."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.errors import UserError
from kd.objectives.nst import NeuronSelectivity, selectivity, squared_discrepancy


def mean_kernel(ours, theirs):
    """⟨(xᵀy)²⟩ over all pairs of unit-length channels of two images [C, H, W]."""
    values = []
    for x in ours:
        for y in theirs:
            lengths = np.sqrt((x**2).sum()) * np.sqrt((y**2).sum())
            values.append(((x * y).sum() / lengths) ** 2)
    return np.mean(values)


def discrepancy(student, teacher):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        total += mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t)
    return total / len(student)


class TestFewChannels(Contract):
    """Fewer channels than positions: the kernel of channels."""

    taps: ClassVar = {"stage1": (3, 4, 5), "stage2": (4, 3, 3)}
    teacher_taps: ClassVar = {"stage1": (5, 4, 5), "stage2": (4, 3, 3)}

    def make(self):
        return NeuronSelectivity(["stage1", "stage2"])

    def reference(self, student, teacher, target, objective):
        return sum(discrepancy(student.taps[t], teacher.taps[t]) for t in ("stage1", "stage2"))


class TestManyChannels(Contract):
    """More channels than positions: the distance of second moments."""

    taps: ClassVar = {"stage3": (7, 2, 2)}

    def make(self):
        return NeuronSelectivity(["stage3"])

    def reference(self, student, teacher, target, objective):
        return discrepancy(student.taps["stage3"], teacher.taps["stage3"])


def unit(channels, positions):
    return selectivity(torch.randn(2, channels, positions, 1))


def test_order_and_copies_of_channels_do_not_matter():
    torch.manual_seed(0)
    ours, theirs = unit(3, 10), unit(4, 10)
    value = squared_discrepancy(ours, theirs)
    assert value > 1e-3
    torch.testing.assert_close(squared_discrepancy(ours[:, [2, 0, 1]], theirs), value)
    torch.testing.assert_close(squared_discrepancy(ours, torch.cat([theirs, theirs], 1)), value)


def test_a_channel_counts_by_its_direction_alone():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
    factors = torch.tensor([0.1, -2.0, 30.0])[:, None, None]
    torch.testing.assert_close(
        squared_discrepancy(selectivity(factors * ours), selectivity(theirs)),
        squared_discrepancy(selectivity(ours), selectivity(theirs)),
    )


def test_one_position_tells_nothing_but_signs():
    """Also just above zero, where the norm's gradient was a million."""
    student = torch.tensor([[1e-9, -3.0, 0.0, 2.0]])[..., None, None].requires_grad_()
    teacher = torch.tensor([[5.0, 1e-8]])[..., None, None]
    value = squared_discrepancy(selectivity(student), selectivity(teacher))
    # ⟨k⟩ of the student: 3 of its 4 channels fire, so 9 of 16 pairs; with the teacher 3 of 4
    assert value.item() == pytest.approx(9 / 16 + 1 - 2 * 3 / 4)
    value.backward()
    assert student.grad.abs().max() == 0


def test_maps_of_another_size_are_compared_at_the_teachers():
    case = Contract()
    case.taps, case.teacher_taps = {"stage1": (3, 8, 8)}, {"stage1": (5, 4, 4)}
    case.make = lambda: NeuronSelectivity(["stage1"])
    objective, student, teacher, batch = case.case()
    ours = student.taps["stage1"].reshape(6, 3, 4, 2, 4, 2).mean((3, 5)).double().numpy()
    expected = discrepancy(ours, teacher.taps["stage1"].double().numpy())
    assert objective(student, teacher, batch).item() == pytest.approx(expected, rel=1e-5)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no stage in common"):
        NeuronSelectivity([])
    case = Contract()
    case.taps, case.teacher_taps = {"stage1": (3,)}, {"stage1": (5, 4, 4)}
    case.make = lambda: NeuronSelectivity(["stage1"])
    with pytest.raises(UserError, match=r"'stage1'.*\[6, 3\].*\[6, 5, 4, 4\]"):
        case.case()
