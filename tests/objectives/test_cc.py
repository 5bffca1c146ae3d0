"""Peng et al. 2019: the kernel form, its series, and the form of later comparisons."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.objectives.cc import CorrelationCongruence, taylor_kernel


def kernel(features, gamma, order):
    rows = [f.ravel() / np.linalg.norm(f) for f in features]
    return [
        [
            math.exp(-2 * gamma)
            * sum(
                (2 * gamma) ** p / math.factorial(p) * np.dot(x, y) ** p for p in range(order + 1)
            )
            for y in rows
        ]
        for x in rows
    ]


class TestKernel(Contract):
    taps: ClassVar = {"embedding": (7,)}
    refuses_one_image = "at least 2 of them, got 1"

    def make(self):
        return CorrelationCongruence()

    def reference(self, student, teacher, target, objective):
        tap, order, gamma = objective.tap, objective.order, objective.gamma
        s, t = (kernel(answer.taps[tap], gamma, order) for answer in (student, teacher))
        size = len(s)
        return sum((s[i][j] - t[i][j]) ** 2 for i in range(size) for j in range(size)) / size**2


class TestOtherWidthAndOrder(TestKernel):
    teacher_taps: ClassVar = {"embedding": (11,)}

    def make(self):
        return CorrelationCongruence(order=5, gamma=0.7)


class TestMapAgainstVector(TestKernel):
    taps: ClassVar = {"stage3": (4, 2, 2)}
    teacher_taps: ClassVar = {"stage3": (6,)}

    def make(self):
        return CorrelationCongruence("stage3", order=1)


class TestMeanDifference(Contract):
    taps: ClassVar = {"embedding": (7,)}
    teacher_taps: ClassVar = {"embedding": (9,)}
    refuses_one_image = "at least 2 of them, got 1"
    batch_order_matters = True

    def make(self):
        return CorrelationCongruence(variant="mean_difference", dim=4)

    def reference(self, student, teacher, target, objective):
        rows = []
        for answer, linear in (
            (student, objective.student_embedding),
            (teacher, objective.teacher_embedding),
        ):
            weight, bias = (p.detach().double().numpy() for p in (linear.weight, linear.bias))
            rows.append([weight @ f + bias for f in answer.taps["embedding"]])
        apart = [abs(s - t) for s, t in zip(*rows, strict=True)]
        products = [sum(apart[i] * apart[i + 1]) for i in range(len(apart) - 1)]
        return sum(products) / len(products)


@pytest.mark.parametrize("gamma", [0.4, 1.5])
def test_the_series_tends_to_the_gaussian_kernel(gamma):
    torch.manual_seed(0)
    rows = torch.randn(9, 4)
    unit = (rows / rows.norm(dim=1, keepdim=True)).double()
    exact = torch.exp(-gamma * torch.cdist(unit, unit) ** 2)
    errors = [
        (taylor_kernel(rows, gamma, order) - exact).abs().max().item() for order in range(1, 16)
    ]
    assert errors[0] > 0.02
    assert errors[:6] == sorted(errors[:6], reverse=True)
    assert errors[-1] < 1e-6


def test_only_directions_count_and_not_which():
    torch.manual_seed(0)
    rows = torch.randn(9, 4)
    turned = 5 * rows @ torch.linalg.qr(torch.randn(4, 4))[0]
    torch.testing.assert_close(taylor_kernel(turned), taylor_kernel(rows))
    assert (taylor_kernel(rows + 1) - taylor_kernel(rows)).abs().max() > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "paper"}, "variant must be one of .*, got 'paper'"),
        ({"gamma": 0}, "gamma must be > 0, got 0"),
        ({"order": 0}, "order must be ≥ 1, got 0"),
        ({"dim": 0}, "dim must be ≥ 1, got 0"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        CorrelationCongruence(**arguments)
