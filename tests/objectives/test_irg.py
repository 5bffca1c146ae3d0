"""Liu et al. 2019: vertices, edges and transitions."""

from itertools import pairwise, permutations
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.errors import UserError
from kd.objectives.irg import InstanceGraph, edges, relative_change
from kd.objectives.setting import Setting
from kd.types import Outputs


def adjacency(features):
    apart = {
        (i, j): np.sum((features[i] - features[j]) ** 2)
        for i, j in permutations(range(len(features)), 2)
    }
    return {pair: d / max(apart.values()) for pair, d in apart.items()}


def mean_square(ours, theirs):
    return np.mean([(ours[key] - theirs[key]) ** 2 for key in theirs])


def blocks(array, axis, size):
    """The mean of equal neighbouring parts along an axis."""
    parts = np.split(array, size, axis)
    return np.stack([part.mean(axis) for part in parts], axis)


def change(early, late):
    """Early maps have at least the size of late ones, and half as many channels."""
    early = blocks(blocks(early, 2, late.shape[2]), 3, late.shape[3])
    late = blocks(late, 1, early.shape[1])
    apart = [np.sum((a - b) ** 2) for a, b in zip(early, late, strict=True)]
    return dict(enumerate(a / max(apart) for a in apart))


class TestInstanceGraph(Contract):
    taps: ClassVar = {"stage1": (2, 4, 4), "stage2": (4, 2, 2), "embedding": (5,)}

    refuses_one_image = "at least 2 of them, got 1"

    def make(self):
        return InstanceGraph(["stage1", "stage2"])

    def reference(self, student, teacher, target, objective):
        total = objective.weights["vertex"] * np.mean((student.logits - teacher.logits) ** 2)
        layers = [
            mean_square(adjacency(student.taps[tap]), adjacency(teacher.taps[tap]))
            for tap in objective.student_taps
        ]
        stages = objective.stages
        steps = [
            mean_square(
                change(student.taps[early], student.taps[late]),
                change(teacher.taps[early], teacher.taps[late]),
            )
            for early, late in pairwise(stages)
        ]
        return (
            total
            + objective.weights["edge"] * np.mean(layers)
            + objective.weights["transition"] * np.mean(steps)
        )


class TestThreeStagesOfOtherShapes(TestInstanceGraph):
    taps: ClassVar = {
        "stage1": (2, 8, 8),
        "stage2": (4, 4, 4),
        "stage3": (8, 4, 4),
        "embedding": (8,),
    }
    teacher_taps: ClassVar = {
        "stage1": (3, 4, 4),
        "stage2": (6, 2, 2),
        "stage3": (12, 1, 1),
        "embedding": (12,),
    }

    def make(self):
        return InstanceGraph(["stage1", "stage2", "stage3"], vertex=1.0, edge=2.0, transition=3.0)


class TestTransitionsAlone(TestInstanceGraph):
    def make(self):
        return InstanceGraph(["stage1", "stage2"], "stage2", vertex=0.0, edge=0.0)


def test_edges_know_no_rotation_shift_or_scale():
    torch.manual_seed(0)
    rows = torch.randn(7, 5)
    moved = 20 * rows @ torch.linalg.qr(torch.randn(5, 5))[0] + 40
    torch.testing.assert_close(edges(moved), edges(rows), rtol=1e-4, atol=1e-5)
    assert (edges(rows @ torch.randn(5, 5)) - edges(rows)).abs().max() > 0.05
    assert edges(rows).max() == 1


def test_a_stage_that_changes_nothing_has_no_transition():
    torch.manual_seed(0)
    maps = torch.randn(4, 3, 2, 2)
    assert not relative_change(maps, maps).any()
    larger = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert not relative_change(larger, maps.repeat_interleave(2, 1)).any()
    assert relative_change(maps, torch.randn(4, 3, 2, 2)).max() == 1


def test_vectors_are_refused_by_name():
    student, teacher = (
        Outputs(
            torch.zeros(2, 3), {"stage1": torch.zeros(2, *s), "stage2": torch.zeros(2, 4, 1, 1)}
        )
        for s in ((4, 2, 2), (6,))
    )
    message = r"maps \[B, C, H, W\] at tap 'stage1'; the student has \[2, 4, 2, 2\], .* \[2, 6\]"
    with pytest.raises(UserError, match=message):
        InstanceGraph(["stage1", "stage2"]).build(student, teacher, Setting(3, torch.zeros(4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"taps": ["stage1"]}, r"two stages or more that both nets have, got \['stage1'\]"),
        ({"taps": []}, r"two stages or more that both nets have, got \[\]"),
        ({"vertex": -1.0}, r"vertex must be ≥ 0, got -1\.0"),
        ({"edge": -1.0}, r"edge must be ≥ 0, got -1\.0"),
        ({"transition": -1.0}, r"transition must be ≥ 0, got -1\.0"),
        ({"vertex": 0, "edge": 0, "transition": 0}, "must be > 0, got 0 for all three"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        InstanceGraph(**{"taps": ["stage1", "stage2"], **arguments})
