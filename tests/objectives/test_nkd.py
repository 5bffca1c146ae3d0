"""Normalised KD (Yang et al. 2023) against plain Python floats."""

import math

import pytest
import torch
from contract import Contract

from kd.objectives.dkd import decoupled_kl
from kd.objectives.nkd import Normalized, other_cross_entropy, target_cross_entropy


def probabilities(row, temperature=1.0):
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


class TestNormalized(Contract):
    at_teacher = None  # the value there consists of entropies

    def make(self):
        return Normalized(2.0, gamma=1.5)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for ours, theirs, y in zip(student.logits, teacher.logits, target, strict=True):
            total -= probabilities(theirs)[y] * math.log(probabilities(ours)[y])
            p_s, p_t = probabilities(ours, 2.0), probabilities(theirs, 2.0)
            for k in range(len(p_s)):
                if k != y:
                    ours_k, theirs_k = p_s[k] / (1 - p_s[y]), p_t[k] / (1 - p_t[y])
                    total -= 1.5 * 4.0 * theirs_k * math.log(ours_k)
        return total / len(target)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(8, 6, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher, torch.randint(6, (8,), generator=generator)


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


def test_gradient_of_other_classes_is_that_of_their_divergence(logits):
    student, teacher, target = logits
    divergence = decoupled_kl(student, teacher, target, 3.0)[1].mean()
    cross_entropy = other_cross_entropy(student, teacher, target, 3.0)
    torch.testing.assert_close(gradient(cross_entropy, student), gradient(divergence, student))


def test_certain_teacher_gives_cross_entropy_with_the_labels(logits):
    student, _, target = logits
    certain = 100 * torch.nn.functional.one_hot(target, 6).float()
    expected = torch.nn.functional.cross_entropy(student, target)
    torch.testing.assert_close(target_cross_entropy(student, certain, target), expected)


def test_two_classes_give_the_label_term_alone():
    student, teacher = torch.tensor([[3.0, -1.0]]), torch.tensor([[0.5, 2.0]])
    target = torch.tensor([1])
    with_others = Normalized(2.0, gamma=5.0).compare(student, teacher, target)
    torch.testing.assert_close(with_others, target_cross_entropy(student, teacher, target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature must be a number > 0, got -1"),
        ({"gamma": -0.5}, "gamma must be ≥ 0, got -0.5"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        Normalized(**options)
