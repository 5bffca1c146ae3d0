"""Soft targets (Hinton et al. 2015), plain and with standardised logits (Sun et al. 2024)."""

import numpy as np
import pytest
import torch
from contract import Contract

from kd.objectives.kd import SoftTargets, kd


def softmax(rows, temperature=1.0):
    powers = np.exp((rows - rows.max(1, keepdims=True)) / temperature)
    return powers / powers.sum(1, keepdims=True)


def divergence(student, teacher, temperature):
    total = 0.0
    for p_s, p_t in zip(softmax(student, temperature), softmax(teacher, temperature), strict=True):
        total += sum(t * np.log(t / s) for s, t in zip(p_s, p_t, strict=True))
    return temperature**2 * total / len(student)


class TestSoftTargets(Contract):
    def make(self):
        return SoftTargets(4.0)

    def reference(self, student, teacher, target, objective):
        return divergence(student.logits, teacher.logits, 4.0)


class TestTemperatureOne(Contract):
    def make(self):
        return SoftTargets(1.0)

    def reference(self, student, teacher, target, objective):
        return divergence(student.logits, teacher.logits, 1.0)


class TestStandardised(Contract):
    def make(self):
        return SoftTargets(2.0, standardise=True)

    def reference(self, student, teacher, target, objective):
        ours, theirs = (
            np.stack([(z - z.mean()) / z.std(ddof=1) for z in outputs.logits])
            for outputs in (student, teacher)
        )
        return divergence(ours, theirs, 2.0)


def test_gradient_descent_on_the_logits_reduces_the_loss():
    torch.manual_seed(0)
    logits, teacher = (2 * torch.randn(5, 7)).requires_grad_(), 2 * torch.randn(5, 7)
    optimizer = torch.optim.SGD([logits], lr=2.0)
    losses = []
    for _ in range(50):
        loss = kd(logits, teacher, 4.0)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("temperature", [0.0, "hot"])
def test_invalid_temperature_raises(temperature):
    message = f"temperature must be a number > 0, got {temperature!r}"
    with pytest.raises(ValueError, match=message):
        SoftTargets(temperature)
