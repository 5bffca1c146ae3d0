"""Zhao et al. 2022."""

import math

import pytest
import torch
from contract import Contract
from support import gradient

from kd.objectives.dkd import Decoupled, decoupled_kl, other_logits
from kd.objectives.kd import kd


def probabilities(row, temperature):
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


class TestDecoupled(Contract):
    def make(self):
        return Decoupled(3.0, target_weight=0.5, other_weight=6.0)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for ours, theirs, y in zip(student.logits, teacher.logits, target, strict=True):
            p_s, p_t = probabilities(ours, 3.0), probabilities(theirs, 3.0)
            total += 0.5 * kl([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]])
            rest = [[p[k] / (1 - p[y]) for k in range(len(p)) if k != y] for p in (p_t, p_s)]
            total += 6.0 * kl(*rest)
        return 9 * total / len(target)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(8, 6, generator=generator) for _ in range(2))
    return student, teacher, torch.randint(6, (8,), generator=generator)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_targets_are_the_sum_weighted_by_the_teachers_doubt(logits, temperature):
    student, teacher, target = logits
    label, others = decoupled_kl(student, teacher, target, temperature)
    doubt = 1 - torch.softmax(teacher / temperature, 1).gather(1, target[:, None]).squeeze(1)
    expected = kd(student, teacher, temperature)
    torch.testing.assert_close((label + doubt * others).mean(), expected)


def test_the_labels_logit_does_not_touch_the_other_classes(logits):
    student, teacher, target = logits
    moved = student.scatter_add(1, target[:, None], torch.full((8, 1), 5.0))
    before, after = (decoupled_kl(z, teacher, target, 4.0) for z in (student, moved))
    torch.testing.assert_close(after[1], before[1])
    assert (after[0] - before[0]).abs().min() > 1e-3


def test_others_are_every_class_but_the_label():
    rows = torch.tensor([[0, 1, 2, 3]]).expand(4, 4)
    others = other_logits(rows, torch.arange(4))
    assert others.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_two_classes_leave_only_the_label():
    student, teacher = torch.tensor([[3.0, -1.0]]), torch.tensor([[0.5, 2.0]])
    label, others = decoupled_kl(student, teacher, torch.tensor([1]), 2.0)
    assert others.tolist() == [0.0]
    torch.testing.assert_close(label.mean(), kd(student, teacher, 2.0))


def test_a_certain_teacher_still_teaches_the_other_classes():
    """Where the label's probability rounds to 1 and the rest, as probabilities, to 0."""
    teacher = torch.tensor([[200.0, 3.0, 1.0]])
    student = torch.zeros(1, 3, requires_grad=True)
    Decoupled(1.0, 0.0, 1.0).compare(student, teacher, torch.tensor([0])).backward()
    expected = 0.5 - torch.softmax(torch.tensor([3.0, 1.0]), 0)
    torch.testing.assert_close(gradient(student)[0, 1:], expected)
    assert gradient(student)[0, 0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"target_weight": -1.0}, "target_weight must be ≥ 0, got -1.0"),
        ({"other_weight": -2.0}, "other_weight must be ≥ 0, got -2.0"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Decoupled(**options)
