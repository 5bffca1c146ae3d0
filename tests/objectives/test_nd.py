"""Wang et al. 2024, KD++: norm and direction of embeddings towards the teacher's class means."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from support import gradient

from kd.errors import UserError
from kd.objectives.nd import NormAndDirection, nd
from kd.objectives.setting import Setting
from kd.types import Outputs


def term(ours, theirs, means, target):
    """Image by image, in float64."""
    total = 0.0
    for s, t, y in zip(ours, theirs, target, strict=True):
        longer = max(np.sqrt(s @ s), np.sqrt(t @ t))
        total += 1 - s @ means[y] / (np.sqrt(means[y] @ means[y]) * longer)
    return total / len(ours)


def means_of(rows, target):
    return {y: rows[target == y].mean(0) for y in set(target.tolist())}


class TestSameWidth(Contract):
    taps: ClassVar = {"embedding": (4,)}
    at_teacher = None  # an image's embedding is not its class mean

    def make(self):
        return NormAndDirection()

    def ours(self, student, objective):
        return student.taps["embedding"]

    def reference(self, student, teacher, target, objective):
        theirs = teacher.taps["embedding"]
        ours = self.ours(student, objective)
        return term(ours, theirs, means_of(theirs, target), target)


class TestOtherWidths(TestSameWidth):
    taps: ClassVar = {"embedding": (3,)}
    teacher_taps: ClassVar = {"embedding": (5,)}
    refuses_one_image = "Expected more than 1 value per channel"  # by batch norm

    def ours(self, student, objective):
        rows = student.taps["embedding"]
        rows = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
        weight, bias = (p.detach().double().numpy() for p in objective.projector[1].parameters())
        return rows @ weight.T + bias


def case(images=20, width=6, classes=3):
    """Embeddings of a pool in both nets, its labels, and an objective built for them."""
    torch.manual_seed(0)
    ours, theirs = torch.randn(images, width), torch.randn(images, width) + 1
    target = torch.arange(images) % classes
    objective = NormAndDirection()
    outputs = [Outputs(torch.zeros(images, classes), {"embedding": r}) for r in (ours, theirs)]
    objective.build(outputs[0], outputs[1], Setting(classes, target))
    return objective, ours, theirs, target


def step(objective, ours, theirs, target, index):
    student, teacher = (
        Outputs(torch.zeros(len(index), 3), {"embedding": rows[index]}) for rows in (ours, theirs)
    )
    return objective(student, teacher, make_batch(target[index], index))


def test_minimum_along_the_class_mean_with_at_least_the_teachers_norm():
    _, _, theirs, target = case()
    means = torch.randn(3, 6)
    along = torch.nn.functional.normalize(means, dim=1)[target]
    norms = theirs.norm(dim=1, keepdim=True)
    for factor in (1.0, 5.0):
        value = nd(factor * norms * along, theirs, means, target)
        assert value.item() == pytest.approx(0, abs=1e-6)
    assert nd(0.25 * norms * along, theirs, means, target).item() == pytest.approx(0.75, abs=1e-6)
    assert nd(-norms * along, theirs, means, target).item() == pytest.approx(2, abs=1e-6)


def test_length_of_means_and_direction_of_the_teacher_do_not_matter():
    _, ours, theirs, target = case()
    means = torch.randn(3, 6)
    value = nd(ours, theirs, means, target)
    torch.testing.assert_close(nd(ours, theirs, 7 * means, target), value)
    torch.testing.assert_close(nd(ours, theirs.flip(1), means, target), value)


def test_a_short_embedding_grows_and_a_long_one_only_turns():
    theirs, means, label = torch.ones(1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([0])
    for length, radial in ((0.1, True), (10.0, False)):
        own = (length * torch.tensor([[0.6, 0.8]])).requires_grad_()
        nd(own, theirs, means, label).backward()
        push = -(gradient(own) * own.detach()).sum().item() / length
        assert (push > 1e-3) == radial
        assert push > -1e-6


def test_class_means_are_those_of_one_pass_over_the_pool():
    objective, ours, theirs, target = case()
    for index in torch.arange(20).split(7):
        step(objective, ours, theirs, target, index)
    expected = torch.stack([theirs[target == y].mean(0) for y in range(3)])
    torch.testing.assert_close(objective.class_means(), expected)
    # Another epoch with other views
    for index in torch.randperm(20).split(7):
        step(objective, ours, theirs + torch.randn(20, 6), target, index)
    torch.testing.assert_close(objective.class_means(), expected)


def test_evaluation_changes_no_mean_and_a_checkpoint_restores_them():
    objective, ours, theirs, target = case()
    step(objective, ours, theirs, target, torch.arange(9))
    before = objective.class_means()
    objective.eval()
    value = step(objective, ours, theirs, target, torch.arange(9, 20))
    torch.testing.assert_close(objective.class_means(), before)
    other = case()[0].eval()
    other.load_state_dict(objective.state_dict())
    assert step(other, ours, theirs, target, torch.arange(9, 20)).equal(value)


def test_descent_separates_the_classes_of_the_embedding():
    """The paper's claim: the class means are a classifier, and embeddings come to agree with it."""
    objective, ours, theirs, target = case(images=60)
    theirs = theirs + 3 * torch.eye(6)[target]
    rows = ours.clone().requires_grad_()
    optimizer = torch.optim.Adam([rows], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        step(objective, rows, theirs, target, torch.arange(60)).backward()
        optimizer.step()
    means = torch.nn.functional.normalize(objective.class_means(), dim=1)
    right = [((r @ means.T).argmax(1) == target).float().mean() for r in (ours, rows.detach())]
    assert right[0] < 0.6
    assert right[1] == 1
    assert (rows.norm(dim=1) > 0.95 * theirs.norm(dim=1)).all()


def test_maps_are_refused():
    student, teacher = (
        Outputs(torch.zeros(2, 3), {"embedding": torch.zeros(s)}) for s in ((2, 3, 4, 4), (2, 3))
    )
    with pytest.raises(UserError, match=r"nd needs vectors.*student has \[2, 3, 4, 4\], the teach"):
        NormAndDirection().build(student, teacher, Setting(3, torch.arange(6) % 3))
