"""Teacher-free KD (Yuan et al. 2020) against plain Python floats."""

import math

import pytest
import torch
from conftest import make_batch
from contract import Contract

from kd.objectives.tfkd import VirtualTeacher, tfkd, virtual_probabilities
from kd.types import Outputs


def softmax(row):
    powers = [math.exp(z - max(row)) for z in row]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


class TestPaper(Contract):
    at_teacher = None  # the teacher is not used

    def make(self):
        return VirtualTeacher(4.0, confidence=0.9)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for z, y in zip(student.logits, target, strict=True):
            powers = [(0.9 if k == y else 0.1 / 4) ** (1 / 4) for k in range(5)]
            total += kl([p / sum(powers) for p in powers], softmax([x / 4 for x in z]))
        return 16 * total / len(target)


class TestCode(Contract):
    at_teacher = None

    def make(self):
        return VirtualTeacher(20.0, confidence=0.9, variant="code")

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for z, y in zip(student.logits, target, strict=True):
            virtual = [0.9 if k == y else 0.1 / 4 for k in range(5)]
            total += kl(softmax([u / 20 for u in virtual]), softmax(z))
        return total / len(target)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(8, 6, generator=generator), torch.randint(6, (8,), generator=generator)


def test_temperature_one_is_label_smoothing(logits):
    student, target = logits
    smoothed = torch.nn.functional.cross_entropy(student, target, label_smoothing=(1 - 0.9) * 6 / 5)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1 / 5))
    loss = VirtualTeacher(1.0, 0.9).compare(student, student, target)
    torch.testing.assert_close(loss, smoothed - entropy)


def test_minimum_is_at_the_virtual_teachers_logits(logits):
    _, target = logits
    virtual = virtual_probabilities(target, 6, 0.99)
    torch.testing.assert_close(virtual.sum(1), torch.ones(8))
    loss = VirtualTeacher(20.0).compare(3 + virtual.log(), virtual, target)
    assert loss.item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("standardise", [False, True])
def test_value_does_not_depend_on_a_teacher(logits, standardise):
    student, target = logits
    batch = make_batch(target)
    objective = VirtualTeacher(standardise=standardise)
    assert not objective.needs_teacher
    absent, present = Outputs(torch.empty(0), {}), Outputs(torch.randn(8, 6), {})
    losses = [objective(Outputs(student, {}), teacher, batch) for teacher in (absent, present)]
    torch.testing.assert_close(*losses)
    assert losses[0] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"confidence": 1.0}, r"confidence must be in \(0, 1\), got 1.0"),
        ({"confidence": 0.0}, "confidence must be .*got 0.0"),
        ({"variant": "issue"}, "variant must be one of .*got 'issue'"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        VirtualTeacher(**options)


def test_function_rejects_an_unknown_variant():
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'other'"):
        tfkd(torch.zeros(2, 3), torch.tensor([0, 1]), variant="other")
