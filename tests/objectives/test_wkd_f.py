"""Lv et al. 2024, WKD-F: Wasserstein distance of Gaussians of feature maps."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.errors import UserError
from kd.objectives.setting import Setting
from kd.objectives.wkd_f import WassersteinFeatures, wkd_f
from kd.types import Outputs


def root(matrix):
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T


def bures(first, second):
    """The covariances' part of the squared Wasserstein distance, of full matrices."""
    outer = root(second)
    return np.trace(first + second - 2 * root(outer @ first @ outer))


def gaussian(region):
    """Mean and covariance, diagonal with 1e-5 added, of the positions of [C, h, w]."""
    points = region.reshape(len(region), -1)
    return points.mean(1), np.diag(points.var(1) + 1e-5)


def distance(student, teacher, mean_weight, grid=1):
    """Image by image and region by region, by the general formula of two Gaussians."""
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        blocks = [
            [block for row in np.split(m, grid, 1) for block in np.split(row, grid, 2)]
            for m in (ours, theirs)
        ]
        for one, other in zip(*blocks, strict=True):
            (mean, spread), (their_mean, their_spread) = gaussian(one), gaussian(other)
            total += mean_weight * np.sum((mean - their_mean) ** 2) + bures(spread, their_spread)
    return total / (len(student) * grid**2)


def projected(maps, projector):
    """1×1 convolution, batch norm on batch statistics and ReLU, in float64."""
    weight, bias = (p.detach().double().numpy() for p in projector[0].parameters())
    mapped = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], maps) + bias[:, None, None]
    mean, variance = mapped.mean((0, 2, 3), keepdims=True), mapped.var((0, 2, 3), keepdims=True)
    return np.maximum((mapped - mean) / np.sqrt(variance + 1e-5), 0)


class TestWholeMap(Contract):
    taps: ClassVar = {"stage3": (4, 3, 3)}
    teacher_taps: ClassVar = {"stage3": (5, 2, 2)}
    mean_weight, grid = 4.0, 1

    def make(self):
        return WassersteinFeatures("stage3", self.mean_weight, self.grid)

    def reference(self, student, teacher, target, objective):
        ours = projected(student.taps["stage3"], objective.projector)
        return distance(ours, teacher.taps["stage3"], self.mean_weight, self.grid)


class TestRegions(TestWholeMap):
    taps: ClassVar = {"stage3": (3, 6, 6)}
    teacher_taps: ClassVar = {"stage3": (4, 4, 4)}
    mean_weight, grid = 0.5, 2


def maps(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape)


def test_equal_distributions_cost_nothing_in_any_order_and_resolution():
    teacher = maps(3, 4, 5, 5)
    moved = teacher.flatten(2)[:, :, torch.randperm(25)].view_as(teacher)
    assert wkd_f(moved, teacher).item() == pytest.approx(0, abs=1e-9)
    larger = teacher.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert wkd_f(larger, teacher).item() == pytest.approx(0, abs=1e-9)
    assert wkd_f(moved, teacher, grid=5).item() > 0.1


def test_it_is_a_distance_also_of_distributions_far_apart():
    """Where the Kullback-Leibler divergence of narrow Gaussians is in the thousands."""
    teacher = 1e-2 * maps(3, 4, 5, 5)
    steps = [wkd_f(teacher + shift, teacher, mean_weight=1.0).item() for shift in (1, 2, 4)]
    assert steps == pytest.approx([4.0, 16.0, 64.0], rel=1e-4)
    scaled = wkd_f(300 * teacher, 100 * teacher, mean_weight=0.0).item()
    spread = teacher.double().flatten(2).var(2, correction=0).sum(1).mean().item()
    assert scaled == pytest.approx(200**2 * spread, rel=1e-3)


def test_one_position_has_a_mean_alone():
    ours, theirs = maps(2, 3, 1, 1).requires_grad_(), torch.zeros(2, 3, 4, 4)
    value = wkd_f(ours, theirs, mean_weight=1.0)
    value.backward()
    assert value.item() == pytest.approx(ours.square().sum().item() / 2)
    torch.testing.assert_close(ours.grad, ours.detach())


def test_descent_gives_the_channels_the_teachers_moments():
    teacher = 2 * maps(4, 3, 6, 6) + 1
    ours = torch.rand(4, 3, 4, 4, requires_grad=True)
    optimizer = torch.optim.Adam([ours], 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        wkd_f(ours, teacher).backward()
        optimizer.step()
    for reduce in (torch.mean, lambda rows, dim: rows.std(dim, correction=0)):
        mine, other = (reduce(m.detach().flatten(2), 2) for m in (ours, teacher))
        torch.testing.assert_close(mine, other, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean_weight": -1.0}, r"mean_weight must be ≥ 0, got -1\.0"),
        ({"grid": 0}, "grid must be a whole number ≥ 1, got 0"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        WassersteinFeatures("stage3", **options)


def test_more_regions_than_positions_are_refused():
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"stage3": torch.zeros(2, 3, n, n)}) for n in (4, 2)
    )
    setting = Setting(5, torch.arange(10) % 5)
    with pytest.raises(UserError, match=r"grid=3.*\[3, 4, 4\].*\[3, 2, 2\].*at most 2"):
        WassersteinFeatures(grid=3).build(student, teacher, setting)
    WassersteinFeatures(grid=2).build(student, teacher, setting)


def test_vectors_are_refused():
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"stage3": torch.zeros(s)}) for s in ((2, 3), (2, 3, 4, 4))
    )
    with pytest.raises(UserError, match=r"wkd_f needs maps.*'stage3'; the student has \[2, 3\]"):
        WassersteinFeatures().build(student, teacher, Setting(5, torch.arange(10) % 5))
