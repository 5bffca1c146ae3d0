"""Liu et al. 2021: inter-channel correlation."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.errors import UserError
from kd.objectives.ickd import InterChannelCorrelation, channel_correlation, ickd
from kd.objectives.setting import Setting
from kd.types import Outputs

SETTING = Setting(5, torch.arange(10) % 5)


def correlation(image):
    """Every pair of channels of [C, H, W] by loops, rows to length one."""
    rows = []
    for first in image:
        row = np.array([sum((first * second).flatten()) for second in image])
        rows.append(row / np.sqrt(sum(row**2)))
    return np.stack(rows)


def distance(student, teacher):
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        total += ((correlation(ours) - correlation(theirs)) ** 2).sum()
    return total / (len(teacher) * teacher.shape[1])


def projected(maps, projector):
    """1×1 convolution and batch norm on batch statistics, in float64."""
    weight = projector[0].weight.detach().double().numpy()[:, :, 0, 0]
    mapped = np.einsum("oc,bchw->bohw", weight, maps)
    mean, variance = mapped.mean((0, 2, 3), keepdims=True), mapped.var((0, 2, 3), keepdims=True)
    return (mapped - mean) / np.sqrt(variance + 1e-5)


class TestInterChannelCorrelation(Contract):
    taps: ClassVar = {"stage3": (4, 3, 3)}
    at_teacher = None  # a trained projection lies between

    def make(self):
        return InterChannelCorrelation("stage3")

    def reference(self, student, teacher, target, objective):
        ours = projected(student.taps["stage3"], objective.projector)
        return distance(ours, teacher.taps["stage3"])


class TestOtherChannelsAndSize(TestInterChannelCorrelation):
    taps: ClassVar = {"stage3": (3, 5, 5)}
    teacher_taps: ClassVar = {"stage3": (6, 2, 2)}


def test_equal_maps_cost_nothing_and_scale_does_not_matter():
    torch.manual_seed(0)
    maps = torch.randn(3, 4, 5, 5)
    assert ickd(7 * maps, maps).item() == pytest.approx(0, abs=1e-6)
    assert ickd(maps.flip(1), maps).item() > 0.1


def test_positions_may_be_permuted_alike_in_all_channels():
    torch.manual_seed(0)
    maps = torch.randn(3, 4, 5, 5)
    moved = maps.flatten(2)[:, :, torch.randperm(25)].view_as(maps)
    torch.testing.assert_close(channel_correlation(moved), channel_correlation(maps))


def test_orthogonal_channels_correlate_with_themselves_only():
    maps = torch.eye(4).view(1, 4, 2, 2) * 3
    torch.testing.assert_close(channel_correlation(maps), torch.eye(4)[None])


def test_vectors_are_refused():
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"stage3": torch.zeros(s)}) for s in ((2, 3), (2, 3, 4, 4))
    )
    with pytest.raises(UserError, match=r"ickd needs maps.*'stage3'; the student has \[2, 3\]"):
        InterChannelCorrelation("stage3").build(student, teacher, SETTING)


def test_descent_gives_the_channels_the_teachers_correlations():
    """At another resolution, and for the own image's correlations rather than another's."""
    torch.manual_seed(0)
    mixing = torch.randn(4, 5, 3)
    teacher = torch.einsum("bck,bkhw->bchw", mixing, torch.randn(4, 3, 6, 6))
    start = torch.randn(4, 5, 4, 4)
    ours = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([ours], 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        ickd(ours, teacher).backward()
        optimizer.step()

    def likeness(maps, other):
        pairs = zip(maps.detach().numpy(), other.numpy(), strict=True)
        grams = [[np.corrcoef(m.reshape(5, -1))[np.triu_indices(5, 1)] for m in p] for p in pairs]
        return np.mean([np.corrcoef(*pair)[0, 1] for pair in grams])

    assert likeness(start, teacher) < 0.5
    assert likeness(ours, teacher) > 0.9
    assert likeness(ours, teacher.roll(1, 0)) < 0.5
    assert ickd(ours, teacher.roll(1, 0)) > 10 * ickd(ours, teacher)
    assert ickd(ours, teacher.roll(1, 1)) > 10 * ickd(ours, teacher)
