"""Variational information distillation (Ahn et al. 2019), one element at a time."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract, altered, as_leaves
from support import gradient

from kd.errors import UserError
from kd.objectives.setting import Setting
from kd.objectives.vid import VariationalInformation, gaussian_nll
from kd.types import Outputs


def regressed(regressor, maps):
    """Three 1×1 convolutions with biases and ReLUs between, of [B, C, H, W]."""
    parameters = [p.detach().double().numpy() for p in regressor.parameters()]
    assert len(parameters) == 6
    for layer in range(3):
        weight, bias = parameters[2 * layer], parameters[2 * layer + 1]
        maps = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], maps) + bias[:, None, None]
        maps = np.maximum(maps, 0) if layer < 2 else maps
    return maps


def negative_log_density(mean, teacher, alpha):
    """Mean over elements of −log N(t; mean, σ²), without the constant log √(2π)."""
    total = 0.0
    for channel, a in enumerate(alpha):
        variance = math.log(1 + math.exp(a)) + 1e-5
        for x, t in zip(mean[:, channel].ravel(), teacher[:, channel].ravel(), strict=True):
            density = math.exp(-((t - x) ** 2) / (2 * variance)) / math.sqrt(math.tau * variance)
            total -= math.log(density) + math.log(math.sqrt(math.tau))
    return total / teacher.size


class TestMaps(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (4, 2, 3)}
    teacher_taps: ClassVar = {"stage1": (5, 4, 4), "stage2": (4, 2, 3)}

    def make(self):
        return VariationalInformation(["stage1", "stage2"], variance=0.5)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for tap in ("stage1", "stage2"):
            mean = regressed(objective.regressors[tap], student.taps[tap])
            alpha = objective.alphas[tap].tolist()
            total += negative_log_density(mean, teacher.taps[tap], alpha)
        return total


class TestVectors(Contract):
    taps: ClassVar = {"embedding": (4,)}
    teacher_taps: ClassVar = {"embedding": (6,)}

    def make(self):
        return VariationalInformation(["embedding"])

    def reference(self, student, teacher, target, objective):
        ours = student.taps["embedding"][:, :, None, None]
        mean = regressed(objective.regressors["embedding"], ours)
        alpha = objective.alphas["embedding"].tolist()
        return negative_log_density(mean, teacher.taps["embedding"], alpha)


def test_initial_variance_is_the_configured_one():
    objective, *_ = TestMaps().case()
    alpha = objective.alphas["stage1"]
    assert alpha.shape == (5,)
    for a in alpha.tolist():
        assert math.log(1 + math.exp(a)) + 1e-5 == pytest.approx(0.5, rel=1e-5)


def test_minimum_over_the_variance_is_the_mean_squared_error():
    torch.manual_seed(0)
    mean, teacher = torch.randn(8, 3, 4, 4).double(), torch.randn(8, 3, 4, 4)
    teacher = teacher * torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    error = (mean - teacher).square().mean((0, 2, 3))
    alpha = torch.log(torch.expm1(error - 1e-5)).float().requires_grad_()
    gaussian_nll(mean, teacher, alpha).backward()
    assert gradient(alpha).abs().max() < 1e-5
    moved = alpha.detach() + 0.5
    assert gaussian_nll(mean, teacher, moved) > gaussian_nll(mean, teacher, alpha)


def test_variance_is_trained_and_grows_with_the_error():
    objective, student, teacher, batch = TestMaps().case()
    assert {n for n, p in objective.named_parameters() if p.requires_grad} >= {
        "alphas.stage1",
        "alphas.stage2",
    }
    teacher.taps["stage1"][:, 0] = 10.0
    before = objective.alphas["stage1"].detach().clone()
    optimizer = torch.optim.SGD(objective.alphas.parameters(), lr=0.1)
    objective(student, teacher, batch).backward()
    optimizer.step()
    assert objective.alphas["stage1"][0] > before[0]


def test_equal_variances_give_a_scaled_mean_squared_error():
    torch.manual_seed(0)
    mean, teacher = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    alpha = torch.full((3,), math.log(math.expm1(5 - 1e-5)))
    expected = (mean - teacher).square().mean() / 10 + math.log(5) / 2
    torch.testing.assert_close(gaussian_nll(mean, teacher, alpha), expected)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((3, 8, 8), (5, 4, 4)), ((3, 2, 2), (5, 4, 4)), ((6,), (5, 4, 4)), ((3, 4, 4), (9,))],
)
def test_shapes_of_student_and_teacher_may_differ(student, teacher):
    shapes = {"taps": {"stage1": student}, "teacher_taps": {"stage1": teacher}}
    case = altered(TestMaps, **shapes, make=lambda: VariationalInformation(["stage1"]))
    objective, ours, theirs, batch = case.case()
    ours = as_leaves(ours, True)
    objective(ours, theirs, batch).backward()
    assert gradient(ours.taps["stage1"]).abs().sum() > 0


def test_invalid_settings_and_sequences_raise():
    with pytest.raises(ValueError, match="no stage in common"):
        VariationalInformation([])
    with pytest.raises(ValueError, match="variance must be > 1e-05, got 0"):
        VariationalInformation(["stage1"], variance=0)
    case = altered(TestMaps, taps={**TestMaps.taps, "stage2": (4, 6)})
    with pytest.raises(UserError, match=r"'stage2'.*\[6, 4, 6\].*\[6, 4, 2, 3\]"):
        case.case()


def test_variance_becomes_that_of_what_the_student_cannot_predict():
    """Channel 0 is the student's with little noise, channel 1 is noise alone."""
    torch.manual_seed(0)
    ours = torch.randn(64, 2, 4, 4)
    noise = torch.randn(64, 2, 4, 4) * torch.tensor([0.3, 2.0])[:, None, None]
    theirs = noise + ours * torch.tensor([1.0, 0.0])[:, None, None]
    student, teacher = (Outputs(torch.zeros(64, 3), {"stage1": m}) for m in (ours, theirs))
    objective = VariationalInformation(["stage1"])
    objective.build(student, teacher, Setting(3, torch.zeros(64)))
    optimizer = torch.optim.Adam(objective.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        objective(student, teacher, make_batch(torch.zeros(64))).backward()
        optimizer.step()
    known, unknown = (math.log1p(math.exp(a)) for a in objective.alphas["stage1"].tolist())
    assert known == pytest.approx(0.3**2, rel=0.5)
    assert unknown == pytest.approx(2.0**2, rel=0.2)
    shuffled = Outputs(teacher.logits, {"stage1": theirs.roll(1, 0)})
    batch = make_batch(torch.zeros(64))
    assert objective(student, shuffled, batch) > objective(student, teacher, batch) + 1
