"""Transformed teacher matching (Zheng & Yang 2024) against NumPy float64."""

import numpy as np
import pytest
import torch
from contract import Contract
from support import UNUSED

from kd.objectives.kd import kd
from kd.objectives.ttm import TransformedTeacher, power_sum, transformed_kl


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def terms(student, teacher, gamma):
    """Power sum and divergence of every sample, as the paper defines them."""
    for ours, theirs in zip(student.logits, teacher.logits, strict=True):
        p_s, powers = softmax(ours), softmax(theirs) ** gamma
        total = sum(powers)
        yield (
            total,
            sum(q / total * np.log(q / total / s) for q, s in zip(powers, p_s, strict=True)),
        )


class TestTransformedTeacher(Contract):
    at_teacher = None  # the minimum is at the teacher's logits divided by T

    def make(self):
        return TransformedTeacher(5.0)

    def reference(self, student, teacher, target, objective):
        return np.mean([divergence for _, divergence in terms(student, teacher, 0.2)])


class TestWeighted(Contract):
    at_teacher = None

    def make(self):
        return TransformedTeacher(5.0, weighted=True)

    def reference(self, student, teacher, target, objective):
        return np.mean([total * divergence for total, divergence in terms(student, teacher, 0.2)])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(8, 6, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("weighted", [False, True])
def test_minimum_is_at_the_teachers_logits_divided_by_temperature(logits, weighted):
    _, teacher = logits
    loss = TransformedTeacher(4.0, weighted).compare(teacher / 4, teacher, UNUSED)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert TransformedTeacher(4.0, weighted).compare(teacher, teacher, UNUSED) > 0.05


def test_decomposition_into_kd_and_entropies(logits):
    """Equation 15 of the paper, with every term computed here."""
    (student, teacher), temperature = logits, 4.0
    q, p = student.softmax(1), (teacher / temperature).softmax(1)
    renyi = (q ** (1 / temperature)).sum(1).log() / (1 - 1 / temperature)
    shannon = -(p * p.log()).sum(1)
    soft = kd(student, teacher, temperature) / temperature**2
    expected = temperature * soft + (temperature - 1) * (shannon - renyi).mean()
    torch.testing.assert_close(transformed_kl(student, teacher, temperature).mean(), expected)


def test_temperature_one_is_kd(logits):
    student, teacher = logits
    expected = kd(student, teacher, 1.0)
    for weighted in (False, True):
        loss = TransformedTeacher(1.0, weighted).compare(student, teacher, UNUSED)
        torch.testing.assert_close(loss, expected)


def test_gradient_is_student_minus_target_probability(logits):
    student, teacher = logits[0].requires_grad_(), logits[1]
    transformed_kl(student, teacher, 4.0).sum().backward()
    torch.testing.assert_close(student.grad, student.softmax(1) - (teacher / 4).softmax(1))


def test_power_sum_of_a_certain_and_a_uniform_teacher():
    rows = torch.tensor([[400.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert power_sum(rows, 4.0).tolist() == pytest.approx([1, 4**0.75])


@pytest.mark.parametrize("temperature", [0.0, 0.5, "hot"])
def test_invalid_temperature_raises(temperature):
    with pytest.raises(ValueError, match=f"temperature must be .*got {temperature!r}"):
        TransformedTeacher(temperature)
