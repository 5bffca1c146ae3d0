"""Neuron selectivity transfer (Huang & Wang 2017) against loops over all pairs of channels."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract, altered
from support import gradient

from kd.errors import UserError
from kd.objectives.nst import NeuronSelectivity, squared_discrepancy, unit_channels


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
    """Fewer channels than positions: computed from the kernel matrix of channels."""

    taps: ClassVar = {"stage1": (3, 4, 5), "stage2": (4, 3, 3)}
    teacher_taps: ClassVar = {"stage1": (5, 4, 5), "stage2": (4, 3, 3)}

    def make(self):
        return NeuronSelectivity(["stage1", "stage2"])

    def reference(self, student, teacher, target, objective):
        return sum(discrepancy(student.taps[t], teacher.taps[t]) for t in ("stage1", "stage2"))


class TestManyChannels(Contract):
    """More channels than positions: computed from matrices of second moments."""

    taps: ClassVar = {"stage3": (7, 2, 2)}

    def make(self):
        return NeuronSelectivity(["stage3"])

    def reference(self, student, teacher, target, objective):
        return discrepancy(student.taps["stage3"], teacher.taps["stage3"])


def unit(channels, positions):
    return unit_channels(torch.randn(2, channels, positions, 1))


def test_order_and_repetition_of_channels_do_not_matter():
    torch.manual_seed(0)
    ours, theirs = unit(3, 10), unit(4, 10)
    value = squared_discrepancy(ours, theirs)
    assert value > 1e-3
    torch.testing.assert_close(squared_discrepancy(ours[:, [2, 0, 1]], theirs), value)
    torch.testing.assert_close(squared_discrepancy(ours, torch.cat([theirs, theirs], 1)), value)


def test_scale_and_sign_of_a_channel_do_not_matter():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
    factors = torch.tensor([0.1, -2.0, 30.0])[:, None, None]
    torch.testing.assert_close(
        squared_discrepancy(unit_channels(factors * ours), unit_channels(theirs)),
        squared_discrepancy(unit_channels(ours), unit_channels(theirs)),
    )


def test_one_position_compares_shares_of_non_zero_channels():
    """Values just above zero have no gradient either; a norm's would be 1e6."""
    student = torch.tensor([[1e-9, -3.0, 0.0, 2.0]])[..., None, None].requires_grad_()
    teacher = torch.tensor([[5.0, 1e-8]])[..., None, None]
    value = squared_discrepancy(unit_channels(student), unit_channels(teacher))
    # ⟨k⟩ of the student: 3 of its 4 channels are not 0, so 9 of 16 pairs; with the teacher 3 of 4
    assert value.item() == pytest.approx(9 / 16 + 1 - 2 * 3 / 4)
    value.backward()
    assert gradient(student).abs().max() == 0


def test_student_maps_are_resampled_to_the_teachers_size():
    shapes = {"taps": {"stage1": (3, 8, 8)}, "teacher_taps": {"stage1": (5, 4, 4)}}
    case = altered(Contract, **shapes, make=lambda: NeuronSelectivity(["stage1"]))
    objective, student, teacher, batch = case.case()
    ours = student.taps["stage1"].reshape(6, 3, 4, 2, 4, 2).mean((3, 5)).double().numpy()
    expected = discrepancy(ours, teacher.taps["stage1"].double().numpy())
    assert objective(student, teacher, batch).item() == pytest.approx(expected, rel=1e-5)


def test_empty_taps_and_vectors_raise():
    with pytest.raises(ValueError, match="no stage in common"):
        NeuronSelectivity([])
    shapes = {"taps": {"stage1": (3,)}, "teacher_taps": {"stage1": (5, 4, 4)}}
    case = altered(Contract, **shapes, make=lambda: NeuronSelectivity(["stage1"]))
    with pytest.raises(UserError, match=r"'stage1'.*\[6, 3\].*\[6, 5, 4, 4\]"):
        case.case()
