"""Li et al. 2023, with one temperature for all samples."""

import math

import pytest
import torch
from conftest import make_batch
from contract import Contract
from support import UNUSED, gradient

from kd.objectives.ctkd import CurriculumTemperature
from kd.objectives.kd import kd
from kd.types import Outputs


def probabilities(row, temperature):
    powers = [math.exp((z - max(row)) / temperature) for z in row]
    return [power / sum(powers) for power in powers]


class TestCurriculumTemperature(Contract):
    def make(self):
        objective = CurriculumTemperature(lowest=1.0, span=20.0, theta=-1.5)
        objective.progress = 0.02
        return objective

    def reference(self, student, teacher, target, objective):
        temperature = 1 + 20 / (1 + math.exp(1.5))
        total = 0.0
        for ours, theirs in zip(student.logits, teacher.logits, strict=True):
            p_s, p_t = probabilities(ours, temperature), probabilities(theirs, temperature)
            total += sum(t * math.log(t / s) for t, s in zip(p_t, p_s, strict=True))
        return temperature**2 * total / len(target)


@pytest.fixture
def all_outputs():
    generator = torch.Generator().manual_seed(0)
    return [Outputs(3 * torch.randn(8, 6, generator=generator), {}) for _ in range(2)]


def loss_of(objective, all_outputs):
    return objective(*all_outputs, make_batch(torch.zeros(8).long()))


def test_it_starts_at_the_papers_temperature():
    assert CurriculumTemperature().temperature().item() == pytest.approx(15.62, abs=5e-3)


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 0.0), (0.1, 0.5), (0.05, 0.1464466), (0.2, 1.0), (0.9, 1.0)]
)
def test_the_reversal_rises_along_half_a_cosine(progress, factor):
    objective = CurriculumTemperature(ramp=0.2)
    objective.progress = progress
    assert objective.reversal == pytest.approx(factor)


@pytest.mark.parametrize("progress", [0.05, 0.5])
def test_the_temperatures_gradient_is_the_slope_reversed(all_outputs, progress):
    objective = CurriculumTemperature(theta=-1.0, ramp=0.2)
    objective.progress = progress
    loss_of(objective, all_outputs).backward()
    step = 1e-3
    sides = []
    for theta in (-1.0 - step, -1.0 + step):
        temperature = 1 + 20 / (1 + math.exp(-theta))
        student, teacher = (t.logits.double() for t in all_outputs)
        sides.append(kd(student, teacher, temperature).item())
    slope = (sides[1] - sides[0]) / (2 * step)
    assert abs(slope) > 0.1
    assert gradient(objective.theta).item() == pytest.approx(-objective.reversal * slope, rel=1e-3)


def test_descent_on_theta_raises_the_loss(all_outputs):
    objective = CurriculumTemperature(theta=-1.0)
    objective.progress = 1.0
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = loss_of(objective, all_outputs)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses == sorted(losses)
    assert losses[-1] > losses[0]


def test_the_students_gradient_is_not_reversed(all_outputs):
    objective = CurriculumTemperature(theta=0.0)
    objective.progress = 1.0
    grads = []
    for compute in (objective.compare, lambda s, t, _: kd(s, t, 11.0)):
        student, teacher = all_outputs[0].logits.clone().requires_grad_(), all_outputs[1].logits
        grads.append(torch.autograd.grad(compute(student, teacher, UNUSED), student)[0])
    torch.testing.assert_close(*grads)


def test_theta_survives_a_checkpoint():
    saved = CurriculumTemperature(theta=0.25).state_dict()
    restored = CurriculumTemperature()
    restored.load_state_dict(saved)
    assert restored.theta.item() == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0.0}, "lowest must be > 0, got 0.0"),
        ({"span": -1.0}, "span must be > 0, got -1.0"),
        ({"ramp": 0.0}, r"ramp must be a fraction of training in \(0, 1\], got 0.0"),
        ({"ramp": 1.5}, "ramp must be .*got 1.5"),
    ],
)
def test_nonsense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CurriculumTemperature(**options)
