"""WKD-L (Lv et al. 2024) against Sinkhorn's iterations in loops and against linear programming."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract
from scipy.optimize import linprog
from support import gradient
from torch import nn

from kd.errors import UserError
from kd.objectives.kd import kd
from kd.objectives.setting import Setting
from kd.objectives.transport import class_cost, transport_cost
from kd.objectives.wkd_l import WassersteinLogits, wkd_l
from kd.types import Outputs


def probabilities(row, temperature=1.0):
    powers = np.exp((row - row.max()) / temperature)
    return powers / powers.sum()


def costs(weight, sharpness):
    number = len(weight)
    cost = np.zeros((number, number))
    for k in range(number):
        for m in range(number):
            lengths = np.sqrt(np.sum(weight[k] ** 2) * np.sum(weight[m] ** 2))
            cost[k, m] = 1 - np.exp(-sharpness * (1 - weight[k] @ weight[m] / lengths))
    return cost


def regularised(source, goal, cost, regularisation, iterations):
    """The plan of Sinkhorn & Knopp, with the kernel itself instead of its logarithm."""
    kernel = np.exp(-cost / regularisation)
    u = np.ones(len(source))
    for _ in range(iterations):
        v = goal / (kernel.T @ u)
        u = source / (kernel @ v)
    return float(np.sum(u[:, None] * kernel * v * cost))


def exact(source, goal, cost):
    """The least cost over all plans, a linear programme."""
    number = len(source)
    rows = np.kron(np.eye(number), np.ones(number))
    columns = np.kron(np.ones(number), np.eye(number))
    solved = linprog(
        cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([source, goal])
    )
    return float(solved.fun)


class TestWassersteinLogits(Contract):
    at_teacher = None  # the label's term is a cross-entropy
    settings: ClassVar = (8.0, 30.0, 1.0, 0.05, 10)

    def setting(self, classes):
        torch.manual_seed(5)
        self.head = nn.Linear(4, classes)
        return Setting(classes, torch.arange(self.pool) % classes, None, self.head)

    def make(self):
        return WassersteinLogits(*self.settings)

    def reference(self, student, teacher, target, objective):
        temperature, gamma, sharpness, regularisation, iterations = self.settings
        cost = costs(self.head.weight.detach().double().numpy(), sharpness)
        total = 0.0
        for ours, theirs, y in zip(student.logits, teacher.logits, target, strict=True):
            total -= probabilities(theirs)[y] * np.log(probabilities(ours)[y])
            source, goal = (probabilities(np.delete(row, y), temperature) for row in (ours, theirs))
            left = np.delete(np.delete(cost, y, 0), y, 1)
            total += gamma * regularised(source, goal, left, regularisation, iterations)
        return total / len(target)


class TestOtherSettings(TestWassersteinLogits):
    settings: ClassVar = (2.0, 3.0, 1.5, 0.1, 7)


def random_rows(number=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    rows = [2 * torch.randn(8, number, generator=generator, dtype=dtype) for _ in range(2)]
    weight = torch.randn(number, 4, generator=generator, dtype=dtype)
    return [row.log_softmax(1) for row in rows], class_cost(weight)


def test_with_little_entropy_it_is_the_linear_programmes_optimum():
    (source, goal), cost = random_rows()
    found = transport_cost(source, goal, cost, 0.02, 400)
    for value, p, q in zip(found, source.exp(), goal.exp(), strict=True):
        assert value.item() == pytest.approx(exact(p.numpy(), q.numpy(), cost.numpy()), abs=5e-3)


def test_it_is_a_distance():
    """Nearly 0 from itself, positive otherwise, and the same in both directions."""
    (source, goal), cost = random_rows()
    there, back = (
        transport_cost(a, b, cost, 0.05, 200) for a, b in ((source, goal), (goal, source))
    )
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-6)
    assert (transport_cost(source, source, cost, 0.02, 200) < 0.05 * there).all()
    assert (there > 0.01).all()


# A classifier's weight whose class 1 is like class 2 and unlike class 3
CLASSES = torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [1, 0.5, 0, 0], [-1, 0, 1, 0], [0, 0, 0, 1]])


def one_hot(place, number=5, height=200.0):
    return height * torch.nn.functional.one_hot(torch.tensor([place]), number).float()


def test_mass_on_a_similar_class_costs_less_than_on_another():
    """KL sees no difference."""
    cost, target = class_cost(CLASSES), torch.tensor([0])
    student = one_hot(1)
    near, far = (wkd_l(student, one_hot(place), target, cost) for place in (2, 3))
    assert far > 3 * near > 0
    assert near.item() == pytest.approx(30 * cost[1, 2].item(), rel=1e-3)
    for_kl = [kd(student, one_hot(place)).item() for place in (2, 3)]
    assert for_kl[0] == for_kl[1]


def test_gradient_moves_mass_to_the_classes_that_are_like_the_teachers():
    cost, target = class_cost(CLASSES), torch.tensor([0])
    student = torch.zeros(1, 5, requires_grad=True)
    teacher = torch.tensor([[0.0, 0.0, 30.0, 0.0, 0.0]])
    label = wkd_l(student, teacher, target, cost, gamma=0.0)
    (wkd_l(student, teacher, target, cost) - label).backward()
    push = -gradient(student)[0]
    assert push[0].abs() < 1e-6  # the label has no part in the distance
    assert push[2] > push[1] > push[3]
    assert push[1] > 0 > push[3]


def test_gradients_through_the_iterations_are_those_of_differences():
    (_, _), cost = random_rows()
    generator = torch.Generator().manual_seed(3)
    student, teacher = (
        torch.randn(3, 6, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    target = torch.tensor([0, 3, 5])

    def loss(logits):
        return wkd_l(logits, teacher, target, cost, 2.0, 5.0, 0.1, 5)

    assert torch.autograd.gradcheck(loss, (student.requires_grad_(),))


def test_two_classes_have_the_labels_term_alone():
    student, teacher = torch.tensor([[3.0, -1.0]]), torch.tensor([[0.5, 2.0]])
    loss = wkd_l(student, teacher, torch.tensor([1]), class_cost(torch.eye(2)))
    confidence = 1 / (1 + math.exp(-1.5))
    assert loss.item() == pytest.approx(confidence * math.log(1 + math.exp(4)), rel=1e-5)


def test_classifiers_that_are_not_linear_are_refused():
    outputs = Outputs(torch.zeros(2, 5), {})
    for head in (None, nn.Sequential(nn.Linear(4, 5))):
        setting = Setting(5, torch.arange(10) % 5, None, head)
        with pytest.raises(UserError, match=r"wkd_l reads the weight of the teacher's classifier"):
            WassersteinLogits().build(outputs, outputs, setting)
    setting = Setting(5, torch.arange(10) % 5, None, nn.Linear(4, 7))
    with pytest.raises(UserError, match=r"compares the 5 classes.*weight is \[7, 4\]"):
        WassersteinLogits().build(outputs, outputs, setting)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"gamma": -1.0}, "gamma must be ≥ 0, got -1.0"),
        ({"sharpness": 0.0}, "sharpness must be > 0, got 0.0"),
        ({"regularisation": 0.001}, "regularisation must be ≥ 0.02, got 0.001"),
        ({"iterations": 0}, "iterations must be a whole number ≥ 1, got 0"),
        ({"iterations": 2.5}, "iterations must be a whole number ≥ 1, got 2.5"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        WassersteinLogits(**options)
