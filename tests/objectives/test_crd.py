"""Tian, Krishnan & Isola 2020: the critic, its constant, the negatives and the bank."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_batch
from contract import Contract

from kd.objectives.crd import Contrastive
from kd.objectives.setting import Setting
from kd.types import Outputs

LATE = 7  # images whose rows the bank does not have yet


def embed(linear, rows):
    weight, bias = (p.detach().double().numpy() for p in (linear.weight, linear.bias))
    embedded = [weight @ row.ravel() + bias for row in rows]
    return [row / np.linalg.norm(row) for row in embedded]


def one_side(anchors, others, bank, negatives, constant, temperature, count):
    """Mean over anchors of −log h(positive) − K·mean of log(1 − h(negative)); others: positives."""

    def critic(x, y):
        power = np.exp(np.dot(x, y) / temperature)
        return power / (power + constant)

    losses = []
    for anchor, other, chosen in zip(anchors, others, negatives, strict=True):
        misses = [np.log(1 - critic(anchor, bank[n])) for n in chosen]
        losses.append(-np.log(critic(anchor, other)) - count * np.mean(misses))
    return np.mean(losses)


class TestContrastive(Contract):
    taps: ClassVar = {"embedding": (7,)}
    teacher_taps: ClassVar = {"embedding": (9,)}
    at_teacher = None
    relative = 1e-4  # float32 exponents of ⟨t, s⟩/τ

    def make(self):
        return Contrastive(dim=4)

    def case(self, *arguments, **keywords):
        """The bank holds all images but the late ones."""
        objective, student, teacher, batch = super().case(*arguments, **keywords)
        for bank in (objective.student_bank, objective.teacher_bank):
            bank.copy_(F.normalize(torch.randn(bank.shape), dim=1))
            bank[-LATE:] = 0
            bank[batch.index[0]] = 0
        self.index = batch.index.numpy()
        return objective, student, teacher, batch

    def value(self, objective, student, teacher, batch):
        """Each call from the same buffers."""
        before = [buffer.clone() for buffer in objective.buffers()]
        loss = super().value(objective, student, teacher, batch)
        for buffer, old in zip(objective.buffers(), before, strict=True):
            buffer.copy_(old)
        return loss

    def reference(self, student, teacher, target, objective):
        ours = embed(objective.student_embedding, student.taps[objective.tap])
        theirs = embed(objective.teacher_embedding, teacher.taps[objective.tap])
        banks = [bank.double().numpy() for bank in (objective.student_bank, objective.teacher_bank)]
        partners = [
            [
                bank[place] if objective.positives == "bank" and np.any(bank[place]) else row
                for place, row in zip(self.index, rows, strict=True)
            ]
            for bank, rows in zip(banks, (ours, theirs), strict=True)
        ]
        torch.manual_seed(1)
        count = self.pool // 3
        drawn = torch.randint(self.pool, (count,)).tolist()
        labels = [place % self.classes for place in range(self.pool)]
        known = [n for n in drawn if np.any(banks[0][n])]
        if objective.exclude_class:
            negatives = [[n for n in known if labels[n] != y] for y in target]
        else:
            negatives = [[n for n in known if n != place] for place in self.index]
        tau = objective.temperature
        total = 0.0
        sides = ((ours, partners[1], banks[1]), (theirs, partners[0], banks[0]))
        for anchors, others, bank in sides:
            powers = [
                np.exp(np.dot(anchor, bank[n]) / tau)
                for anchor, chosen in zip(anchors, negatives, strict=True)
                for n in chosen
            ]
            constant = count * np.mean(powers) if objective.variant == "nce" else count / self.pool
            total += one_side(anchors, others, bank, negatives, constant, tau, count)
        return total


class TestPaper(TestContrastive):
    def make(self):
        return Contrastive(dim=4, variant="paper")


class TestPositivesOfTheBatch(TestContrastive):
    def make(self):
        return Contrastive(dim=4, positives="batch")


class TestOtherImages(TestContrastive):
    """A map against a vector; negatives of any class."""

    taps: ClassVar = {"stage3": (3, 2, 2)}
    teacher_taps: ClassVar = {"stage3": (5,)}

    def make(self):
        return Contrastive("stage3", dim=4, exclude_class=False, temperature=0.5)


def ready(pool=40, classes=5, **arguments):
    torch.manual_seed(0)
    objective = Contrastive(dim=4, **arguments)
    student, teacher = (
        Outputs(torch.zeros(6, classes), {"embedding": torch.randn(6, 8)}) for _ in range(2)
    )
    labels = torch.arange(pool) % classes
    objective.build(student, teacher, Setting(classes, labels))
    index = torch.tensor([0, 5, 7, 8, 12, 31]) % pool
    return objective, student, teacher, make_batch(labels[index], index)


@pytest.mark.parametrize(("pool", "given", "count"), [(40, None, 13), (2, None, 1), (40, 30, 30)])
def test_number_of_negatives(pool, given, count):
    assert ready(pool, negatives=given)[0].count == count


def test_at_most_the_papers_number_of_negatives():
    assert ready(60_000)[0].count == 16_384


def test_the_bank_takes_in_the_batch_and_nothing_else():
    objective, student, teacher, batch = ready()
    objective(student, teacher, batch)
    rows = F.normalize(objective.teacher_embedding(teacher.taps["embedding"]), dim=1)
    torch.testing.assert_close(objective.teacher_bank[batch.index], rows)
    assert objective.teacher_bank.any(1).sum() == len(batch.index)
    moved = Outputs(teacher.logits, {"embedding": torch.randn(6, 8)})
    objective(student, moved, batch)
    new = F.normalize(objective.teacher_embedding(moved.taps["embedding"]), dim=1)
    torch.testing.assert_close(
        objective.teacher_bank[batch.index], F.normalize((rows + new) / 2, dim=1)
    )


def test_the_bank_takes_in_the_batch_after_it_is_scored():
    objective, student, teacher, batch = ready(negatives=400)
    objective(student, teacher, batch)
    for bank in (objective.student_bank, objective.teacher_bank):
        bank[batch.index] = -bank[batch.index]
    opposed = objective(student, teacher, batch)
    assert opposed > objective(student, teacher, batch)


def test_the_bank_stays_in_eval_mode():
    objective, student, teacher, batch = ready()
    objective.eval()
    objective(student, teacher, batch)
    assert not objective.student_bank.any()
    assert objective.estimates == 0


def test_the_constant_is_averaged_over_ten_batches_and_then_fixed():
    objective, student, teacher, batch = ready(negatives=400)
    objective(student, teacher, batch)
    assert objective.estimates == 0, "the bank was empty"
    seen = []
    for _ in range(12):
        objective(student, teacher, batch)
        seen.append(objective.log_z.clone())
    assert objective.estimates == 10
    assert all((a != b).any() for a, b in pairwise(seen[:10]))
    assert (seen[9] == seen[11]).all()


def test_bank_and_constant_survive_a_resume():
    objective, student, teacher, batch = ready()
    objective(student, teacher, batch)
    other = ready()[0]
    assert not other.teacher_bank.any()
    other.load_state_dict(objective.state_dict())
    assert (other.teacher_bank == objective.teacher_bank).all()
    assert (other.log_z == objective.log_z).all()
    assert "labels" not in objective.state_dict()


@pytest.mark.parametrize("exclude_class", [True, False])
def test_negatives_are_other_images(exclude_class):
    objective, _, _, batch = ready(exclude_class=exclude_class)
    objective.teacher_bank.fill_(1.0)
    every = torch.arange(40)
    allowed = objective._allowed(every, batch)
    for row, index, label in zip(allowed, batch.index, batch.target, strict=True):
        assert not row[index]
        expected = every % 5 != label if exclude_class else every != index
        assert (row == expected).all()


def test_a_batch_of_one_class_learns_from_its_positives():
    objective, student, teacher, batch = ready(classes=1)
    loss = objective(student, teacher, batch)
    loss.backward()
    assert loss.isfinite()
    assert objective.student_embedding.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "code"}, r"variant must be one of .*, got 'code'"),
        ({"positives": "own"}, r"positives must be one of .*, got 'own'"),
        ({"negatives": 0}, "negatives must be ≥ 1 or null, got 0"),
        ({"dim": 0}, "dim must be ≥ 1, got 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1\.0"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        Contrastive(**arguments)
