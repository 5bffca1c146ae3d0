"""Giakoumoglou & Stathaki 2024, DCD: contrast within a batch, consistent in both directions."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_batch
from contract import Contract
from support import divergence, softmax

from kd.objectives.dcd import DiscriminativeConsistent, dcd
from kd.objectives.setting import Setting
from kd.types import Outputs


def embed(linear, rows):
    weight, bias = (p.detach().double().numpy() for p in linear.parameters())
    embedded = rows.reshape(len(rows), -1) @ weight.T + bias
    return embedded / np.sqrt((embedded**2).sum(1, keepdims=True))


class TestContrast(Contract):
    taps: ClassVar = {"embedding": (4,)}
    teacher_taps: ClassVar = {"embedding": (6,)}
    theta = 1.0

    def make(self):
        objective = DiscriminativeConsistent(dim=3, consistency=0.7)
        with torch.no_grad():
            objective.theta.fill_(self.theta)
        return objective

    def reference(self, student, teacher, target, objective):
        s = embed(objective.student_embedding, student.taps["embedding"])
        t = embed(objective.teacher_embedding, teacher.taps["embedding"])
        scores = s @ t.T * min(math.exp(self.theta), 10)
        p, q = softmax(scores), softmax(scores.T)
        return -np.log(np.diag(p)).mean() + 0.7 * divergence(q, p)


class TestLargestScale(TestContrast):
    taps: ClassVar = {"embedding": (2, 2, 2)}
    theta = 5.0


def unit(*shape):
    return F.normalize(torch.randn(*shape), dim=1)


def test_a_number_added_to_every_score_changes_nothing():
    """Why the paper's trained offset is left out: in one more dimension it is such a number."""
    torch.manual_seed(0)
    s, t = unit(5, 8), unit(5, 8)
    one = torch.ones(5, 1)
    value = dcd(torch.cat([s, one], 1), torch.cat([t, 3 * one], 1))
    torch.testing.assert_close(value, dcd(s, t))


def test_directions_agree_where_the_scores_are_symmetric():
    torch.manual_seed(0)
    s, t = unit(5, 8), unit(5, 8)
    torch.testing.assert_close(dcd(s, s, consistency=9.0), dcd(s, s, consistency=0.0))
    assert dcd(s, t, consistency=9.0) > dcd(s, t, consistency=0.0) + 0.1
    assert dcd(s[:1], t[:1]).item() == 0


def test_orthogonal_images_cost_least_and_less_at_a_larger_scale():
    images = torch.eye(4)
    values = [dcd(images, images, scale).item() for scale in (1.0, 3.0, 10.0)]
    assert values == pytest.approx([math.log(1 + 3 * math.exp(-a)) for a in (1, 3, 10)], abs=1e-6)
    assert dcd(images.roll(1, 0), images, 10.0) > 9


def test_the_embedding_retrieves_the_teachers_of_unseen_images():
    """Features that are a noisy mixture of the teacher's, as those of a student are."""
    torch.manual_seed(0)
    teacher = torch.randn(300, 8)
    student = teacher @ torch.randn(8, 8) + 0.1 * torch.randn(300, 8)
    objective = DiscriminativeConsistent(dim=16)
    outputs = [Outputs(torch.zeros(300, 2), {"embedding": rows}) for rows in (student, teacher)]
    objective.build(outputs[0], outputs[1], Setting(2, torch.zeros(300)))

    def retrieved():
        with torch.no_grad():
            s = F.normalize(objective.student_embedding(student[200:]), dim=1)
            t = F.normalize(objective.teacher_embedding(teacher[200:]), dim=1)
        return ((s @ t.T).argmax(1) == torch.arange(100)).float().mean().item()

    assert retrieved() < 0.1
    optimizer = torch.optim.Adam(objective.parameters(), 0.02)
    for step in range(150):
        index = torch.arange(40) + 40 * (step % 5)
        ours, theirs = (
            Outputs(o.logits[index], {"embedding": o.taps["embedding"][index]}) for o in outputs
        )
        optimizer.zero_grad()
        objective(ours, theirs, make_batch(torch.zeros(40), index)).backward()
        optimizer.step()
    assert objective.theta > 1.2, "the scale grows as the images become distinct"
    assert retrieved() > 0.6, "chance is 1 / 100"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim must be ≥ 1, got 0"),
        ({"consistency": -0.5}, r"consistency must be ≥ 0, got -0\.5"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiscriminativeConsistent(**arguments)
