"""Miles et al. 2022: correlation and mutual information."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract
from support import gradient

from kd.objectives.itrd import Information, correlation_term, itrd, mutual_term


def embedded(objective, features):
    weight, bias = (
        p.detach().double().numpy() for p in (objective.embedding.weight, objective.embedding.bias)
    )
    return np.array([weight @ f.ravel() + bias for f in features])


def correlation(ours, theirs, alpha):
    total = 0.0
    for s, t in zip(ours.T, theirs.T, strict=True):
        total += abs(1 - np.corrcoef(s, t)[0, 1]) ** (2 * alpha)
    return math.log2(total)


def cosines(rows):
    return np.array([[x @ y / math.sqrt(x @ x) / math.sqrt(y @ y) for y in rows] for x in rows])


def collisions(kernel):
    """Σ of the squared eigenvalues of the kernel with trace 1."""
    return sum(np.linalg.eigvalsh(kernel / np.trace(kernel)) ** 2)


def mutual(ours, theirs, logarithms):
    own = collisions(cosines(ours))
    joint = collisions(cosines(ours) * cosines(theirs))
    if not logarithms:
        return own - joint
    return -math.log2(joint) + math.log2(own)


class TestInformation(Contract):
    taps: ClassVar = {"embedding": (7,)}
    at_teacher = None  # r is not the identity, and log₂ 0 no minimum
    refuses_one_image = "at least 2 of them, got 1"

    def make(self):
        return Information()

    def reference(self, student, teacher, target, objective):
        ours = embedded(objective, student.taps[objective.tap])
        theirs = np.array([f.ravel() for f in teacher.taps[objective.tap]])
        return objective.correlation * correlation(ours, theirs, objective.alpha) + (
            objective.mutual * mutual(ours, theirs, objective.variant == "entropy")
        )


class TestDifferenceOfOtherWidths(TestInformation):
    teacher_taps: ClassVar = {"embedding": (4,)}

    def make(self):
        return Information(variant="difference", mutual=3.0, alpha=1.01)


class TestMutualAloneMapAgainstVector(TestInformation):
    taps: ClassVar = {"stage3": (4, 2, 2)}
    teacher_taps: ClassVar = {"stage3": (6,)}

    def make(self):
        return Information("stage3", correlation=0.0)


def test_correlation_knows_no_shift_or_positive_scale_of_a_feature():
    torch.manual_seed(0)
    ours, theirs = torch.randn(9, 4), torch.randn(9, 4)
    before = correlation_term(ours, theirs, 1.5)
    torch.testing.assert_close(correlation_term(3 * ours + 2, theirs, 1.5), before)
    torch.testing.assert_close(correlation_term(ours, theirs * torch.rand(4), 1.5), before)
    assert correlation_term(-ours, theirs, 1.5) != pytest.approx(before.item(), rel=1e-2)


def test_perfect_correlation_is_the_finite_minimum():
    torch.manual_seed(0)
    theirs = torch.randn(9, 4)
    ours = theirs.clone().requires_grad_()
    loss = correlation_term(ours, theirs, 1.5)
    loss.backward()
    assert loss.item() == pytest.approx(math.log2(1e-6), abs=1e-3)
    assert gradient(ours).isfinite().all()
    assert correlation_term(theirs + 0.5 * torch.randn(9, 4), theirs, 1.5) > loss + 1


def test_mutual_information_knows_no_rotation_or_scale():
    torch.manual_seed(0)
    ours, theirs = torch.randn(9, 4), torch.randn(9, 6)
    before = mutual_term(ours, theirs)
    turned = 3 * ours @ torch.linalg.qr(torch.randn(4, 4))[0]
    torch.testing.assert_close(mutual_term(turned, theirs), before)
    assert (mutual_term(ours + 1, theirs) - before).abs() > 1e-2


@pytest.mark.parametrize("variant", ["entropy", "difference"])
def test_a_teacher_that_sees_no_difference_leaves_nothing_to_learn(variant):
    """All its cosines are 1, so jointly nothing is known beyond the student's own."""
    torch.manual_seed(0)
    ours, same = torch.randn(9, 4), torch.ones(9, 3)
    assert mutual_term(ours, same, variant).abs() < 1e-6
    assert mutual_term(ours, torch.randn(9, 3), variant) > 1e-3


def test_mutual_information_is_bounded_by_the_batch():
    """A student of one direction and a teacher of all: log₂ B bits are missing."""
    value = mutual_term(torch.ones(8, 3), torch.eye(8))
    assert value.item() == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "paper"}, r"variant must be one of .*, got 'paper'"),
        ({"alpha": 0.4}, r"alpha must be ≥ 0\.5, got 0\.4"),
        ({"correlation": -1.0}, r"correlation must be ≥ 0, got -1\.0"),
        ({"mutual": -1.0}, r"mutual must be ≥ 0, got -1\.0"),
        ({"correlation": 0, "mutual": 0}, "correlation or mutual must be > 0, got 0, 0"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        Information(**arguments)


def descend(loss_of, start, steps=200, rate=0.05):
    """The tensor that Adam finds from `start` by `loss_of` alone."""
    leaf = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(leaf).backward()
        optimizer.step()
    return leaf.detach()


def test_correlation_term_makes_features_correlate():
    torch.manual_seed(0)
    start, theirs = torch.randn(24, 5), torch.randn(24, 5)
    found = descend(lambda ours: correlation_term(ours, theirs, 1.5), start)

    def least(ours):
        return min(np.corrcoef(s, t)[0, 1] for s, t in zip(ours.T, theirs.T, strict=True))

    assert least(start) < 0.2
    assert least(found) > 0.95


def test_mutual_term_makes_images_that_differ_for_the_teacher_differ():
    """Joint entropy above the student's own is what the student does not tell apart."""
    torch.manual_seed(0)
    groups = torch.arange(4).repeat(6)
    theirs = torch.eye(4)[groups] + 0.05 * torch.randn(24, 4)
    start = torch.randn(24, 4)
    found = descend(lambda ours: mutual_term(ours, theirs), start)
    apart = (groups[:, None] != groups[None, :]).numpy()

    def overlap(ours):
        return (cosines(ours.double().numpy())[apart] ** 2).mean()

    assert overlap(start) > 0.15
    assert overlap(found) < 0.05


def test_another_images_embedding_costs_more_than_the_own():
    torch.manual_seed(0)
    theirs = torch.randn(12, 5)
    other = theirs.roll(1, 0)
    assert itrd(other, theirs) > itrd(theirs, theirs) + 1
    assert itrd(theirs + 0.1 * torch.randn(12, 5), theirs) < itrd(other, theirs)
