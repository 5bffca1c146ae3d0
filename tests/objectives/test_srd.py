"""Simple recipe distillation (Miles & Mikolajczyk 2024): projector, normalisation and log-sum."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract
from support import gradient

from kd.errors import UserError
from kd.objectives.setting import Setting
from kd.objectives.srd import SimpleRecipe, srd
from kd.types import Outputs

SETTING = Setting(5, torch.arange(10) % 5)


def normalised(vectors):
    return (vectors - vectors.mean(0)) / np.sqrt(vectors.var(0) + 1e-4)


def distance(student, teacher, projector, power):
    weight, bias = (p.detach().double().numpy() for p in (projector.weight, projector.bias))
    ours = normalised(np.array([weight @ row + bias for row in student]))
    theirs = normalised(teacher)
    pairs = zip(ours.flatten(), theirs.flatten(), strict=True)
    return math.log(sum(abs(s - t) ** power for s, t in pairs))


class TestSimpleRecipe(Contract):
    taps: ClassVar = {"embedding": (7,)}
    at_teacher = None  # the projector is not the identity
    refuses_one_image = "at least 2 images a step, got 1"

    def make(self):
        return SimpleRecipe("embedding", power=4.0)

    def reference(self, student, teacher, target, objective):
        taps = (student.taps["embedding"], teacher.taps["embedding"])
        return distance(*taps, objective.projector, 4)


class TestOtherWidths(TestSimpleRecipe):
    teacher_taps: ClassVar = {"embedding": (4,)}


class TestMapAgainstVector(TestSimpleRecipe):
    taps: ClassVar = {"stage3": (5, 3, 3)}
    teacher_taps: ClassVar = {"stage3": (4,)}

    def make(self):
        return SimpleRecipe("stage3", power=1.0)

    def reference(self, student, teacher, target, objective):
        pooled = student.taps["stage3"].mean((2, 3))
        return distance(pooled, teacher.taps["stage3"], objective.projector, 1)


def test_mean_and_scale_of_a_dimension_do_not_matter():
    torch.manual_seed(0)
    student, teacher = 10 * torch.randn(20, 6), 10 * torch.randn(20, 6)
    moved = srd(student, teacher * torch.rand(6).add(1) + torch.randn(6), 4.0)
    torch.testing.assert_close(moved, srd(student, teacher, 4.0), rtol=1e-4, atol=1e-4)


def test_gradient_does_not_depend_on_repetition_of_the_batch():
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 6, requires_grad=True), torch.randn(8, 6)
    once = torch.autograd.grad(srd(student, teacher, 4.0), student)[0]
    twice = srd(student.repeat(2, 1), teacher.repeat(2, 1), 4.0)
    torch.testing.assert_close(torch.autograd.grad(twice, student)[0], once)


def test_equal_embeddings_give_the_floor_and_zero_gradient():
    vectors = torch.randn(8, 6, requires_grad=True)
    loss = srd(vectors, vectors.detach(), 4.0)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1e-12), rel=1e-5)
    assert gradient(vectors).abs().max() == 0


def test_invalid_power_and_shapes_raise():
    with pytest.raises(ValueError, match=r"power must be ≥ 1, got 0\.5"):
        SimpleRecipe(power=0.5)
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"embedding": torch.zeros(s)}) for s in ((2, 3, 4), (2, 3))
    )
    with pytest.raises(UserError, match=r"'embedding'; the student has \[2, 3, 4\], the teacher"):
        SimpleRecipe().build(student, teacher, SETTING)
