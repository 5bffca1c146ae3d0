"""SRRL (Yang et al. 2021): the student's embedding under the teacher's classifier."""

from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from torch import nn

from kd.errors import UserError
from kd.objectives.heads import frozen_head
from kd.objectives.setting import Setting
from kd.objectives.srrl import SoftmaxRegression, srrl
from kd.types import Outputs


def linear(rows, layer):
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    return np.array([[w @ row + b for w, b in zip(weight, bias, strict=True)] for row in rows])


class HeadContract(Contract):
    """Outputs whose logits come from the setting's heads, as in real nets."""

    def setting(self, classes):
        self.made = super().setting(classes)
        return self.made

    def outputs(self, shapes, batch, classes, scale=1.0):
        outputs = super().outputs(shapes, batch, classes, scale)
        heads = (self.made.student_head, self.made.teacher_head)
        widths = {head.in_features: head for head in heads if isinstance(head, nn.Linear)}
        head = widths[shapes["embedding"][0]]
        return Outputs(head(outputs.taps["embedding"]).detach(), outputs.taps)


class TestSameWidth(HeadContract):
    taps: ClassVar = {"embedding": (6,)}

    def make(self):
        return SoftmaxRegression(matching=0.7, regression=1.5)

    def reference(self, student, teacher, target, objective):
        ours, theirs = student.taps["embedding"], teacher.taps["embedding"]
        logits = linear(ours, self.made.teacher_head)
        regressed = ((logits - linear(theirs, self.made.teacher_head)) ** 2).mean()
        return 0.7 * ((ours - theirs) ** 2).mean() + 1.5 * regressed


class TestOtherWidths(HeadContract):
    taps: ClassVar = {"embedding": (4,)}
    teacher_taps: ClassVar = {"embedding": (6,)}

    def make(self):
        return SoftmaxRegression()

    def reference(self, student, teacher, target, objective):
        ours = linear(student.taps["embedding"], objective.connector)
        matched = ((ours - teacher.taps["embedding"]) ** 2).mean()
        logits = linear(ours, self.made.teacher_head)
        return matched + ((logits - teacher.logits) ** 2).mean()


class TestSoft(TestOtherWidths):
    def make(self):
        return SoftmaxRegression(matching=0.0, variant="soft")

    def reference(self, student, teacher, target, objective):
        logits = linear(linear(student.taps["embedding"], objective.connector), objective.head)
        total = 0.0
        for z_s, z_t in zip(logits, teacher.logits, strict=True):
            p, q = (np.exp(z) / np.exp(z).sum() for z in (z_t, z_s))
            total -= (p * np.log(q)).sum()
        return total / len(logits)


def case(head, student_width=4):
    torch.manual_seed(0)
    embedding = torch.randn(3, 6)
    teacher = Outputs(head(embedding).detach(), {"embedding": embedding})
    student = Outputs(torch.randn(3, 5), {"embedding": torch.randn(3, student_width)})
    return student, teacher


def setting(head):
    return Setting(5, torch.arange(10) % 5, None, head)


def test_head_is_a_frozen_copy():
    layer = nn.Linear(6, 5)
    head = nn.Sequential(nn.Dropout(0.5), layer).eval()
    student, teacher = case(head)
    objective = SoftmaxRegression()
    objective.build(student, teacher, setting(head))
    objective.train()
    assert objective.connector.training
    assert not any(module.training for module in objective.head.modules())
    assert not any(p.requires_grad for p in objective.head.parameters())
    assert all(p.requires_grad for p in head.parameters())
    with torch.no_grad():
        layer.weight.zero_()
    assert objective.head.get_parameter("1.weight").abs().sum() > 0


def test_copy_of_the_head_has_no_hooks():
    net = nn.Linear(1000, 1000)
    head = nn.Linear(6, 5)
    seen = []
    head.register_forward_pre_hook(partial(lambda net, module, inputs: seen.append(net), net))
    _, teacher = case(head)
    seen.clear()
    copy = frozen_head(head, teacher.taps["embedding"], teacher.logits, "here")
    copy(teacher.taps["embedding"])
    assert seen == []
    assert not copy._forward_pre_hooks
    assert head._forward_pre_hooks


def test_perfect_embedding_costs_nothing_for_any_student_logits():
    head = nn.Linear(6, 5)
    student, teacher = case(head, student_width=6)
    objective = SoftmaxRegression()
    objective.build(student, teacher, setting(head))
    batch = make_batch(torch.arange(3))
    perfect = Outputs(student.logits, teacher.taps)
    assert objective(perfect, teacher, batch).item() == pytest.approx(0, abs=1e-10)


def test_missing_or_wrong_head_raises():
    head = nn.Linear(6, 5)
    student, teacher = case(head)
    with pytest.raises(UserError, match="none is known: the tap 'embedding' must be the input"):
        SoftmaxRegression().build(student, teacher, setting(None))
    with pytest.raises(UserError, match=r"does not make its logits \[3, 5\] of tap 'embedding'"):
        SoftmaxRegression().build(student, teacher, setting(nn.Linear(6, 5)))
    with pytest.raises(UserError, match=r"in_features=7.*of tap 'embedding', \[3, 6\]"):
        SoftmaxRegression().build(student, teacher, setting(nn.Linear(7, 5)))
    with pytest.raises(UserError, match=r"out_features=4.*logits \[3, 5\]"):
        SoftmaxRegression().build(student, teacher, setting(nn.Linear(6, 4)))


def test_maps_raise():
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"embedding": torch.zeros(s)}) for s in ((2, 3, 4, 4), (2, 3))
    )
    with pytest.raises(UserError, match=r"student has \[2, 3, 4, 4\], the teacher \[2, 3\]"):
        SoftmaxRegression().build(student, teacher, setting(nn.Linear(3, 5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matching": -1.0}, r"must be ≥ 0 and not both 0, got -1\.0 and 1\.0"),
        ({"matching": 0.0, "regression": 0.0}, r"not both 0, got 0\.0 and 0\.0"),
        ({"variant": "sofd"}, r"variant must be one of \['paper', 'soft'\], got 'sofd'"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxRegression(**options)


def test_function_rejects_an_unknown_variant():
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'other'"):
        srrl(logits, logits, logits, logits, variant="other")


@pytest.mark.parametrize("variant", ["paper", "soft"])
def test_the_teachers_head_learns_to_read_the_students_embedding(variant):
    """The regression alone, which is the paper's addition to feature matching."""
    head = nn.Linear(6, 5)
    torch.manual_seed(0)
    theirs = torch.randn(40, 6)
    logits = head(theirs).detach()
    teacher = Outputs(logits, {"embedding": theirs})
    ours = torch.randn(40, 5).requires_grad_()
    student = Outputs(torch.zeros(40, 5), {"embedding": ours})
    objective = SoftmaxRegression(matching=0.0, variant=variant)
    objective.build(student, teacher, setting(head))
    frozen = head.weight.clone()
    trained = [ours, *(p for p in objective.parameters() if p.requires_grad)]
    optimizer = torch.optim.Adam(trained, 0.05)

    def agreement():
        rows = objective.connector(ours)
        read = rows @ head.weight.T + head.bias
        return (read.argmax(1) == logits.argmax(1)).float().mean().item()

    assert agreement() < 0.5
    for _ in range(200):
        optimizer.zero_grad()
        objective(student, teacher, make_batch(torch.zeros(40))).backward()
        optimizer.step()
    assert agreement() > 0.9
    assert head.weight.equal(frozen)


def test_another_images_embedding_costs_more():
    head = nn.Linear(6, 5)
    student, teacher = case(head, student_width=6)
    objective = SoftmaxRegression()
    objective.build(student, teacher, setting(head))
    batch = make_batch(torch.arange(3))
    theirs = teacher.taps["embedding"]
    other = Outputs(student.logits, {"embedding": theirs.roll(1, 0)})
    close = Outputs(student.logits, {"embedding": theirs + 0.1 * torch.randn(theirs.shape)})
    assert objective(other, teacher, batch) > 5 * objective(close, teacher, batch)
