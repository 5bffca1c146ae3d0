"""Heo et al. 2019 (AAAI), neuron by neuron."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract, altered, as_leaves
from support import gradient

from kd.errors import UserError
from kd.objectives.ab import (
    ActivationBoundary,
    boundary_distance,
    depth_weighted_sum,
)


def connected(connector, maps):
    """1×1 convolution and batch norm over the batch, of [B, C, H, W]."""
    weight = connector[0].weight.detach().double().numpy()[:, :, 0, 0]
    maps = np.einsum("oc,bchw->bohw", weight, maps)
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
    return (maps - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)


def hinge(student, teacher, margin):
    """Active neurons have to exceed the margin, silent ones to stay below its negative."""
    total = 0.0
    for response, goal in zip(student.ravel(), teacher.ravel(), strict=True):
        missing = margin - response if goal > 0 else margin + response
        total += max(missing, 0.0) ** 2
    return total / len(student)


class TestMaps(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (4, 2, 3), "stage3": (2, 2, 2)}
    teacher_taps: ClassVar = {"stage1": (5, 4, 4), "stage2": (4, 2, 3), "stage3": (3, 2, 2)}

    def make(self):
        return ActivationBoundary(["stage1", "stage2", "stage3"], margin=1.5)

    def reference(self, student, teacher, target, objective):
        total = 0.0
        for tap, share in (("stage1", 0.25), ("stage2", 0.5), ("stage3", 1.0)):
            ours = connected(objective.connectors[tap], student.taps[tap])
            total += share * hinge(ours, teacher.taps[tap], 1.5)
        return total


class TestVectors(Contract):
    taps: ClassVar = {"stage1": (4,)}
    teacher_taps: ClassVar = {"stage1": (7,)}
    refuses_one_image = "more than 1 value per channel"

    def make(self):
        return ActivationBoundary(["stage1"])

    def reference(self, student, teacher, target, objective):
        ours = connected(objective.connectors["stage1"], student.taps["stage1"][:, :, None, None])
        return hinge(ours, teacher.taps["stage1"], 1.0)


def test_a_tap_behind_the_teachers_relu_says_the_same():
    torch.manual_seed(0)
    ours, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    before = boundary_distance(ours, theirs, 1.0)
    torch.testing.assert_close(boundary_distance(ours, theirs.relu(), 1.0), before)
    torch.testing.assert_close(boundary_distance(ours, 100 * theirs, 1.0), before)
    assert boundary_distance(ours, -theirs, 1.0) != before


def test_beyond_the_margin_nothing_is_asked():
    teacher = torch.tensor([[0.1, -3.0, 0.0]])
    assert boundary_distance(torch.tensor([[1.0, -1.0, -7.0]]), teacher, 1.0) == 0
    assert boundary_distance(torch.tensor([[0.5, -1.0, -1.0]]), teacher, 1.0) == 0.25
    assert boundary_distance(torch.tensor([[0.0, 0.0, 0.0]]), teacher, 2.0) == 12


def test_the_last_term_counts_whole():
    assert depth_weighted_sum([torch.tensor(x) for x in (8.0, 4.0, 3.0)]) == 2 + 2 + 3


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((3, 8, 8), (5, 4, 4)), ((3, 2, 2), (5, 4, 4)), ((6,), (5, 4, 4)), ((3, 4, 4), (9,))],
)
def test_any_two_shapes_compare(student, teacher):
    shapes = {"taps": {"stage1": student}, "teacher_taps": {"stage1": teacher}}
    case = altered(TestMaps, **shapes, make=lambda: ActivationBoundary(["stage1"]))
    objective, ours, theirs, batch = case.case()
    ours = as_leaves(ours, True)
    objective(ours, theirs, batch).backward()
    assert gradient(ours.taps["stage1"]).abs().sum() > 0


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no stage in common"):
        ActivationBoundary([])
    with pytest.raises(ValueError, match="margin must be > 0, got -1"):
        ActivationBoundary(["stage1"], margin=-1)
    case = altered(TestMaps, taps={**TestMaps.taps, "stage2": (4, 6)})
    with pytest.raises(UserError, match=r"'stage2'.*\[6, 4, 6\].*\[6, 4, 2, 3\]"):
        case.case()
