"""Probabilistic knowledge transfer (Passalis & Tefas 2018) against plain Python loops."""

import math
from typing import ClassVar

import pytest
import torch
from contract import Contract
from support import gradient

from kd.objectives.pkt import ProbabilisticTransfer, log_neighbours, pkt
from kd.types import Outputs


def probabilities(features, with_self):
    rows = [f.ravel().tolist() for f in features]

    def affinity(x, y):
        dot = sum(a * b for a, b in zip(x, y, strict=True))
        return (dot / math.hypot(*x) / math.hypot(*y) + 1) / 2

    table = []
    for i, x in enumerate(rows):
        row = [affinity(x, y) if with_self or i != j else 0.0 for j, y in enumerate(rows)]
        table.append([value / sum(row) for value in row])
    return table


class TestPaper(Contract):
    taps: ClassVar = {"embedding": (7,)}
    refuses_one_image = "at least 3 of them, got 1"

    def make(self):
        return ProbabilisticTransfer()

    def reference(self, student, teacher, target, objective):
        with_self = objective.variant == "with_self"
        q, p = (probabilities(a.taps[objective.tap], with_self) for a in (student, teacher))
        size = len(p)
        return sum(
            p[i][j] * math.log(p[i][j] / q[i][j])
            for i in range(size)
            for j in range(size)
            if with_self or i != j
        ) / len(p)


class TestWithSelf(TestPaper):
    teacher_taps: ClassVar = {"embedding": (9,)}
    refuses_one_image = "at least 2 of them, got 1"

    def make(self):
        return ProbabilisticTransfer(variant="with_self")


class TestMapAgainstVector(TestPaper):
    taps: ClassVar = {"stage3": (4, 2, 2)}
    teacher_taps: ClassVar = {"stage3": (6,)}

    def make(self):
        return ProbabilisticTransfer("stage3")


@pytest.mark.parametrize(("variant", "others"), [("paper", 4), ("with_self", 5)])
def test_each_row_is_a_distribution(variant, others):
    torch.manual_seed(0)
    rows = log_neighbours(torch.randn(5, 3), variant).exp()
    assert rows.shape == (5, others)
    torch.testing.assert_close(rows.sum(1), torch.ones(5))


def test_rotation_and_scale_do_not_matter():
    torch.manual_seed(0)
    rows = torch.randn(6, 4)
    rotated = 7 * rows @ torch.linalg.qr(torch.randn(4, 4))[0]
    torch.testing.assert_close(log_neighbours(rotated), log_neighbours(rows))
    assert (log_neighbours(rows + 1) - log_neighbours(rows)).abs().max() > 0.05


def test_opposite_vectors_give_finite_values_and_gradients():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    ours = rows.clone().requires_grad_()
    outputs = Outputs(torch.zeros(4, 2), {"embedding": rows.roll(1, 0)})
    loss = ProbabilisticTransfer()(Outputs(torch.zeros(4, 2), {"embedding": ours}), outputs, None)
    loss.backward()
    assert loss.isfinite()
    assert gradient(ours).isfinite().all()


def test_unknown_variant_raises():
    with pytest.raises(ValueError, match=r"variant must be one of .*, got 'code'"):
        ProbabilisticTransfer(variant="code")


def test_function_rejects_an_unknown_variant():
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'other'"):
        pkt(torch.ones(3, 2), torch.ones(3, 2), variant="other")
