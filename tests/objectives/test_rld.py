"""Refined logit distillation (Sun et al. 2025) against plain Python floats; misranked classes."""

import math

import pytest
import torch
from contract import Contract
from support import gradient

from kd.objectives.dkd import dkd
from kd.objectives.kd import kd
from kd.objectives.rld import RefinedLogits, masked_kl, rld


def probabilities(row, temperature=1.0):
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def reference(student, teacher, target, temperature, own, weights):
    total = 0.0
    for ours, theirs, y in zip(student, teacher, target, strict=True):
        top, label = max(probabilities(theirs, own)), probabilities(ours, own)[y]
        total += weights[0] * own**2 * divergence([top, 1 - top], [label, 1 - label])
        left = [k for k in range(len(theirs)) if theirs[k] < theirs[y]]
        if left:
            rows = [probabilities([row[k] for k in left], temperature) for row in (theirs, ours)]
            total += weights[1] * temperature**2 * divergence(*rows)
    return total / len(target)


class TestRefinedLogits(Contract):
    at_teacher = None  # where the teacher is wrong, the student must not equal it

    def make(self):
        return RefinedLogits()

    def reference(self, student, teacher, target, objective):
        return reference(student.logits, teacher.logits, target, 4.0, 1.0, (1.0, 8.0))


class TestOtherSettings(TestRefinedLogits):
    def make(self):
        return RefinedLogits(2.0, 3.0, 0.5, 2.0)

    def reference(self, student, teacher, target, objective):
        return reference(student.logits, teacher.logits, target, 2.0, 3.0, (0.5, 2.0))


def case():
    """Logits and labels; the teacher is right in the first half of the batch, wrong in the other.

    The label's logit is the third largest in the second half.
    """
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(8, 6, generator=generator) for _ in range(2))
    ranks = teacher.argsort(1, descending=True)
    return student, teacher, torch.cat([ranks[:4, 0], ranks[4:, 2]])


def gradient_of(loss, student, *arguments):
    leaf = student.clone().requires_grad_()
    loss(leaf, *arguments).sum().backward()
    return gradient(leaf)


def test_no_gradient_of_the_correlation_on_classes_that_the_teacher_misranks():
    student, teacher, target = case()
    seen = gradient_of(masked_kl, student, teacher, target, 4.0)
    misranked = teacher >= teacher.gather(1, target[:, None])
    assert misranked.sum(1).tolist() == [1] * 4 + [3] * 4  # with the label itself
    assert (seen[misranked] == 0).all()
    assert (seen[~misranked] != 0).all()
    assert (gradient_of(kd, student, teacher)[misranked] != 0).all()


def test_the_teachers_order_of_misranked_classes_teaches_nothing():
    """Their logits may be exchanged, and the student's gradient is the same."""
    student, teacher, target = case()
    order = teacher.argsort(1, descending=True)
    exchanged = teacher.clone()
    exchanged.scatter_(1, order[:, :1], teacher.gather(1, order[:, 1:2]))
    exchanged.scatter_(1, order[:, 1:2], teacher.gather(1, order[:, :1]))
    wrong = slice(4, None)
    arguments = student[wrong], exchanged[wrong], target[wrong]
    after = gradient_of(rld, *arguments)
    before = gradient_of(rld, student[wrong], teacher[wrong], target[wrong])
    torch.testing.assert_close(after, before)
    kd_gap = gradient_of(kd, *arguments[:2]) - gradient_of(kd, student[wrong], teacher[wrong])
    assert kd_gap.abs().max() > 0.01


def test_where_the_teacher_is_right_it_is_decoupled_kd():
    student, teacher, target = (tensor[:4] for tensor in case())
    refined = rld(student, teacher, target, 3.0, 3.0, 0.7, 2.0)
    torch.testing.assert_close(refined, dkd(student, teacher, target, 3.0, 0.7, 2.0))
    assert rld(teacher, teacher, target).item() == pytest.approx(0, abs=1e-6)


def trained(loss, teacher, target):
    logits = torch.zeros_like(teacher, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss(logits).backward()
        optimizer.step()
    return logits.detach().argmax(1) == target


def test_a_student_of_a_wrong_teacher_predicts_the_label():
    _, teacher, target = case()
    assert trained(lambda z: rld(z, teacher, target), teacher, target).all()
    assert trained(lambda z: kd(z, teacher), teacher, target).tolist() == [True] * 4 + [False] * 4


def test_a_label_that_the_teacher_ranks_last_leaves_the_confidence_alone():
    teacher, student = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0.5, -1.0, 2.0]])
    target = torch.tensor([2])
    assert (gradient_of(masked_kl, student, teacher, target, 4.0) == 0).all()
    alone = rld(student, teacher, target, beta=0.0)
    assert rld(student, teacher, target).item() == alone.item() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"confidence_temperature": "x"}, "temperature must be a number > 0, got 'x'"),
        ({"confidence_weight": -1.0}, "confidence_weight must be ≥ 0, got -1.0"),
        ({"confidence_weight": float("nan")}, "confidence_weight must be ≥ 0, got nan"),
        ({"correlation_weight": -0.5}, "correlation_weight must be ≥ 0, got -0.5"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        RefinedLogits(**options)
