"""Weighted soft labels (Zhou et al. 2021) against plain Python floats."""

import math

import pytest
import torch
from contract import Contract
from support import UNUSED

from kd.objectives.kd import kd
from kd.objectives.soft_ce import SoftTargetCrossEntropy
from kd.objectives.wsld import WeightedSoftLabels, label_weights


def probabilities(row, temperature=1.0):
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


class TestWeightedSoftLabels(Contract):
    def make(self):
        return WeightedSoftLabels(3.0)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for ours, theirs, y in zip(student.logits, teacher.logits, target, strict=True):
            ratio = math.log(probabilities(ours)[y]) / math.log(probabilities(theirs)[y])
            pairs = zip(probabilities(theirs, 3.0), probabilities(ours, 3.0), strict=True)
            total += (1 - math.exp(-ratio)) * sum(t * math.log(t / s) for t, s in pairs)
        return 9 * total / len(target)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(8, 6, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(6, (8,), generator=generator)


def test_weight_is_constant_where_student_equals_teacher(logits):
    student, teacher, target = logits
    weights = label_weights(teacher, teacher, target)
    torch.testing.assert_close(weights, torch.full((8,), 1 - math.exp(-1)))
    assert label_weights(student, teacher, target).std() > 0.05


def test_weight_falls_from_one_to_zero_with_the_students_loss():
    teacher, label = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
    weights = [label_weights(torch.tensor([[z, 0.0, 0.0]]), teacher, label) for z in (-50, 0, 50)]
    assert weights[0].item() == pytest.approx(1)
    assert 0.5 < weights[1].item() < 0.9
    assert weights[2].item() == pytest.approx(0, abs=1e-6)


def test_perfect_teacher_gives_kd(logits):
    student, _, target = logits
    perfect = 200 * torch.nn.functional.one_hot(target, 6).float()
    loss = WeightedSoftLabels(4.0).compare(student, perfect, target)
    torch.testing.assert_close(loss, kd(student, perfect, 4.0))


def test_gradient_is_that_of_the_weighted_cross_entropy(logits):
    """The authors' form; their weights pass no gradient either."""
    student, teacher, target = logits
    weights = label_weights(student, teacher, target)
    assert not weights.requires_grad
    rows = [
        SoftTargetCrossEntropy(4.0).compare(student[i : i + 1], teacher[i : i + 1], UNUSED)
        for i in range(8)
    ]
    expected = torch.autograd.grad((weights * torch.stack(rows)).mean(), student)[0]
    loss = WeightedSoftLabels(4.0).compare(student, teacher, target)
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], expected)


def test_invalid_temperature_raises():
    with pytest.raises(ValueError, match="temperature must be a number > 0, got 0"):
        WeightedSoftLabels(0)
