"""One-for-all (Hao et al. 2023): enhanced target and exits, against NumPy float64."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from support import softmax

from kd.errors import UserError
from kd.objectives.ofa import OneForAll, ofa
from kd.objectives.setting import Setting
from kd.types import Outputs


def term(student, teacher, target, gamma, variant="paper"):
    """The formula class by class; the code's variant has the exponent at all of them."""
    total = 0.0
    for own, other, label in zip(softmax(student), softmax(teacher), target, strict=True):
        for k, (q, p) in enumerate(zip(own, other, strict=True)):
            if variant == "paper":
                weight = (1 + p) ** gamma if k == label else p
            else:
                weight = (1 + p) ** gamma - 1 if k == label else p**gamma
            total -= weight * np.log(q)
    return total / len(target)


def depthwise(maps, weight, stride):
    """A padded 3×3 convolution of each channel alone."""
    (batch, channels, height, width), padded = (
        maps.shape,
        np.pad(maps, ((0, 0),) * 2 + ((1, 1),) * 2),
    )
    rows, columns = range(0, height, stride), range(0, width, stride)
    out = np.zeros((batch, channels, len(rows), len(columns)))
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            out[:, :, a, b] = (padded[:, :, i : i + 3, j : j + 3] * weight[:, 0]).sum((2, 3))
    return out


def exit_logits(maps, layers):
    """A branch in training mode, from its parameters."""
    for layer in layers:
        kind = type(layer).__name__
        if kind == "BatchNorm2d":
            centred = maps - maps.mean((0, 2, 3), keepdims=True)
            maps = np.maximum(centred / np.sqrt(maps.var((0, 2, 3), keepdims=True) + 1e-5), 0)
        elif kind == "Conv2d":
            weight = layer.weight.detach().double().numpy()
            if layer.groups > 1:
                maps = depthwise(maps, weight, layer.stride[0])
            else:
                maps = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], maps)
        elif kind == "Linear":
            weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
            return maps.mean((2, 3)) @ weight.T + bias
    raise AssertionError


class TestExits(Contract):
    taps: ClassVar = {"stage1": (3, 8, 8), "stage2": (4, 4, 4), "stage3": (6, 2, 2)}
    teacher_taps: ClassVar = {}
    at_teacher = None
    options: ClassVar[dict[str, Any]] = {"gamma": 1.5}

    def make(self):
        return OneForAll(["stage1", "stage2", "stage3"], **self.options)

    def reference(self, student, teacher, target, objective):
        exits = [exit_logits(student.taps[tap], objective.exits[tap]) for tap in self.taps]
        exits += [student.logits] if objective.final else []
        settings = (self.options["gamma"], self.options.get("variant", "paper"))
        return sum(term(logits, teacher.logits, target, *settings) for logits in exits)


class TestAsInTheCode(TestExits):
    options: ClassVar = {"gamma": 1.2, "variant": "code", "final": False}


class TestMapsOfOneSize(TestExits):
    """As those of a transformer."""

    taps: ClassVar = {"stage1": (5, 4, 4), "stage2": (5, 4, 4)}

    def make(self):
        return OneForAll(["stage1", "stage2"], **self.options)


@pytest.fixture
def case():
    torch.manual_seed(0)
    return 2 * torch.randn(6, 5), 2 * torch.randn(6, 5), torch.arange(6) % 5


def test_with_gamma_one_it_is_the_cross_entropy_of_label_and_teacher(case):
    own, other, labels = case
    student, teacher, target = (tensor.numpy() for tensor in case)
    logs = np.log(softmax(student))
    hard = -logs[np.arange(6), target].mean()
    soft = -(softmax(teacher) * logs).sum(1).mean()
    assert ofa(own, other, labels, 1.0).item() == pytest.approx(hard + soft, rel=1e-6)
    assert ofa(own, other, labels, 1.0, "code").item() == pytest.approx(soft, rel=1e-5)


def test_gamma_two_adds_a_positive_term_of_the_label_alone(case):
    """(p + p²)·(−log q) of the label, as the paper expands the power."""
    own, other, labels = case
    student, teacher, target = (tensor.numpy() for tensor in case)
    p, q = (softmax(logits)[np.arange(6), target] for logits in (teacher, student))
    added = (-(p + p**2) * np.log(q)).mean()
    gain = ofa(own, other, labels, 2.0) - ofa(own, other, labels, 1.0)
    assert gain.item() == pytest.approx(added, rel=1e-5)


def test_the_minimum_has_the_enhanced_targets(case):
    _, teacher, target = case
    weights = softmax(teacher.numpy())
    rows = np.arange(6)
    weights[rows, target] = (1 + weights[rows, target]) ** 2
    best = torch.from_numpy(np.log(weights)).requires_grad_()
    ofa(best, teacher, target, gamma=2.0).backward()
    assert best.grad is not None
    assert best.grad.abs().max() < 1e-7


def test_gamma_enhances_the_label_where_the_teacher_is_sure_of_it():
    """The pull towards the label grows with γ, and the more, the surer the teacher."""
    target = torch.tensor([0])

    def pull(confidence, gamma):
        other = (1 - confidence) / 3
        teacher = torch.tensor([[confidence, other, other, other]]).log()
        student = torch.zeros(1, 4, requires_grad=True)
        ofa(student, teacher, target, gamma=gamma).backward()
        assert student.grad is not None
        return -student.grad[0, 0].item()

    gains = [pull(p, 2.0) - pull(p, 1.0) for p in (0.05, 0.5, 0.95)]
    assert 0 < gains[0] < gains[1] < gains[2]


def test_every_exit_learns_the_classes_from_the_teacher():
    """Where labels and features agree, the exits do: those of the earlier stages as well."""
    torch.manual_seed(0)
    target = torch.arange(20) % 5
    shapes = {"stage1": (6, 4, 4), "stage2": (8, 2, 2)}
    own = {tap: 3 * torch.randn(5, *shape)[target] for tap, shape in shapes.items()}
    taps = {tap: maps + 0.1 * torch.randn(maps.shape) for tap, maps in own.items()}
    student = Outputs(torch.zeros(20, 5), taps)
    teacher = Outputs(4 * torch.eye(5)[target], {})
    objective = OneForAll(["stage1", "stage2"], final=False)
    objective.build(student, teacher, Setting(5, target))
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        objective(student, teacher, make_batch(target)).backward()
        optimizer.step()
    for logits in objective.exit_logits(student):
        assert (logits.argmax(1) == target).all()


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="gamma must be > 0, got 0"):
        OneForAll(["stage1"], gamma=0)
    with pytest.raises(ValueError, match="variant must be one of"):
        OneForAll(["stage1"], variant="papr")
    with pytest.raises(ValueError, match="taps is empty"):
        OneForAll([])
    outputs = Outputs(torch.zeros(2, 5), {"stage1": torch.zeros(2, 42, 3)})
    with pytest.raises(UserError, match=r"square patches.*'stage1', which has \[2, 42, 3\]"):
        OneForAll(["stage1"]).build(outputs, outputs, Setting(5, torch.arange(5)))
