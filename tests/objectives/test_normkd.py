"""NormKD (Chi et al. 2023) against loops in float64, and what a temperature per sample does."""

import numpy as np
import pytest
import torch
from contract import Contract
from support import gradient

from kd.objectives.kd import kd
from kd.objectives.logits import standardise
from kd.objectives.normkd import NormalizedLogits, normkd


def softened(row, temperature):
    """One sample's probabilities, and its own temperature."""
    own = temperature * np.sqrt(np.sum((row - row.mean()) ** 2) / (len(row) - 1))
    powers = np.exp((row - row.max()) / own)
    return powers / powers.sum(), own


class TestNormKD(Contract):
    def make(self):
        return NormalizedLogits(2.0)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for ours, theirs in zip(student.logits, teacher.logits, strict=True):
            (q, _), (p, own) = softened(ours, 2.0), softened(theirs, 2.0)
            total += own**2 * sum(t * np.log(t / s) for s, t in zip(q, p, strict=True))
        return total / len(student.logits)


def logits():
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(8, 6, generator=generator) for _ in range(2)]


def test_the_students_scale_and_shift_play_no_part_and_the_teachers_scale_is_a_weight():
    student, teacher = logits()
    before = normkd(student, teacher)
    scales, shifts = torch.linspace(0.3, 4, 8)[:, None], torch.linspace(-5, 5, 8)[:, None]
    torch.testing.assert_close(normkd(scales * student + shifts, teacher), before)
    torch.testing.assert_close(normkd(student, 3 * teacher + shifts), 9 * before)


def test_for_a_teacher_of_unit_spread_it_is_kd_of_standardised_logits():
    student, teacher = logits()
    teacher = standardise(teacher)
    torch.testing.assert_close(
        normkd(student, teacher, 3.0), kd(standardise(student), teacher, 3.0)
    )


def test_every_sample_is_softened_to_the_same_degree():
    """One temperature leaves the first sample nearly one-hot and the second nearly uniform."""
    shape = torch.tensor([3.0, 1.0, 0.0, -1.0])
    teacher = torch.stack([20 * shape, 0.1 * shape])
    student = torch.zeros(2, 4, requires_grad=True)
    kd(student, teacher, 4.0).backward()
    fixed = gradient(student)
    assert fixed[0].abs().max() > 50 * fixed[1].abs().max()
    start = shape.flip(0).repeat(2, 1).requires_grad_()
    normkd(start, teacher / teacher.std(1, keepdim=True)).backward()
    own = gradient(start)
    torch.testing.assert_close(own[0], own[1])


@pytest.mark.parametrize("temperature", [0.0, "hot"])
def test_invalid_temperature_raises(temperature):
    message = f"temperature must be a number > 0, got {temperature!r}"
    with pytest.raises(ValueError, match=message):
        NormalizedLogits(temperature)
