"""Logit regression (Ba & Caruana 2014) in plain Python."""

import pytest
import torch
from contract import Contract

from kd.objectives.kd import kd
from kd.objectives.logit_mse import LogitMSE, logit_mse


class TestLogitMSE(Contract):
    def make(self):
        return LogitMSE()

    def reference(self, student, teacher, target, objective):
        s, t = student.logits.tolist(), teacher.logits.tolist()
        batch, classes = len(s), len(s[0])
        squares = [(s[i][k] - t[i][k]) ** 2 for i in range(batch) for k in range(classes)]
        return sum(squares) / (batch * classes)


def test_kd_tends_to_half_of_it_at_high_temperature():
    """Hinton et al. 2015, section 2.1, for logits of zero mean."""
    generator = torch.Generator().manual_seed(0)
    rows = [2 * torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2)]
    student, teacher = (z - z.mean(1, keepdim=True) for z in rows)
    half = logit_mse(student, teacher).item() / 2
    assert kd(student, teacher, 100.0).item() == pytest.approx(half, rel=2e-2)
    assert kd(student, teacher, 10_000.0).item() == pytest.approx(half, rel=2e-4)
