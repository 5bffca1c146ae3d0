"""Soft-target cross-entropy (Hinton et al. 2015) in plain Python."""

import math

import pytest
import torch
from contract import Contract

from kd.objectives.kd import kd
from kd.objectives.soft_ce import SoftTargetCrossEntropy, soft_ce


def softmax(row, temperature):
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


class TestSoftTargetCrossEntropy(Contract):
    at_teacher = None  # the value there is the teacher's entropy

    def make(self):
        return SoftTargetCrossEntropy(3.0)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for z_s, z_t in zip(student.logits, teacher.logits, strict=True):
            pairs = zip(softmax(z_t, 3.0), softmax(z_s, 3.0), strict=True)
            total -= sum(t * math.log(s) for t, s in pairs)
        return 9 * total / len(student.logits)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(5, 7, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher


def test_gradient_is_that_of_kd(logits):
    student, teacher = logits
    gradients = [torch.autograd.grad(f(student, teacher, 3.0), student)[0] for f in (soft_ce, kd)]
    torch.testing.assert_close(*gradients)


def test_difference_to_kd_is_the_teachers_entropy(logits):
    student, teacher = logits
    p = (teacher / 3).softmax(1)
    entropy = 9 * -(p * p.log()).sum(1).mean()
    difference = soft_ce(student, teacher, 3.0) - kd(student, teacher, 3.0)
    torch.testing.assert_close(difference, entropy)
