"""Yim et al. 2017, entry by entry."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract, altered, as_leaves
from support import gradient

from kd.errors import UserError
from kd.objectives.fsp import FSP, flow


def halved(maps):
    """Max pool 2×2 of [C, H, W]."""
    channels, height, width = maps.shape
    return maps.reshape(channels, height // 2, 2, width // 2, 2).max((2, 4))


def gram(first, second):
    """Of one image: entry (i, j) is the mean over positions of channel i times channel j."""
    positions = first.shape[1] * first.shape[2]
    return np.array([[(x * y).sum() / positions for y in second] for x in first])


def distance(student, teacher, pool):
    """Mean squared difference for one pair of taps; `pool` acts on the first map of each net."""
    total = 0.0
    for s1, s2, t1, t2 in zip(*student, *teacher, strict=True):
        total += ((gram(pool(s1), s2) - gram(pool(t1), t2)) ** 2).mean()
    return total / len(student[0])


def same(maps):
    return maps


class TestFSP(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (5, 4, 4), "stage3": (2, 2, 2)}

    def make(self):
        return FSP(["stage1", "stage2", "stage3"])

    def reference(self, student, teacher, target, objective):
        s, t = student.taps, teacher.taps
        first = distance((s["stage1"], s["stage2"]), (t["stage1"], t["stage2"]), same)
        return first + distance((s["stage2"], s["stage3"]), (t["stage2"], t["stage3"]), halved)


class TestProjected(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (5, 4, 4)}
    teacher_taps: ClassVar = {"stage1": (3, 2, 2), "stage2": (4, 2, 2)}

    def make(self):
        return FSP(["stage1", "stage2"], variant="project")

    def reference(self, student, teacher, target, objective):
        (name, weight), *more = objective.named_parameters()
        assert name == "projectors.stage2.weight"
        assert not more
        weight = weight.detach().double().numpy()[:, :, 0, 0]
        ours = np.einsum("oc,bchw->bohw", weight, student.taps["stage2"])
        theirs = teacher.taps["stage1"], teacher.taps["stage2"]
        return distance((student.taps["stage1"], ours), theirs, same)


def test_the_flow_forgets_where():
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 4, 4, 5)
    value = flow(first, second)
    assert value.shape == (2, 3, 4)
    torch.testing.assert_close(flow(first.flip(3), second.flip(3)), value)
    assert not torch.allclose(flow(first.flip(3), second), value)


def test_the_flow_is_bilinear():
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 4, 4), torch.randn(2, 4, 4, 4)
    torch.testing.assert_close(flow(3 * first, -2 * second), -6 * flow(first, second))
    torch.testing.assert_close(flow(second, first), flow(first, second).transpose(1, 2))


def test_equal_channels_need_no_adapter():
    objective, *_ = TestFSP().case()
    assert not list(objective.parameters())


def test_gradients_pass_the_projection():
    objective, student, teacher, batch = TestProjected().case()
    student = as_leaves(student, True)
    objective(student, teacher, batch).backward()
    assert gradient(student.taps["stage2"]).abs().sum() > 0
    assert objective.projectors["stage2"].weight.grad.abs().sum() > 0


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match=r"at least two stages of both nets, got \['stage1'\]"):
        FSP(["stage1"])
    with pytest.raises(ValueError, match=r"variant must be one of .* got 'papr'"):
        FSP(["stage1", "stage2"], variant="papr")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 4, 4), r"equal channels at tap 'stage2'.*\[6, 6, 4, 4\].*\[6, 5, 4, 4\].*=project"),
        ((5,), r"maps .* at tap 'stage2'.*\[6, 5\].*\[6, 5, 4, 4\]"),
    ],
)
def test_shapes_that_do_not_pair_are_named(shape, message):
    case = altered(TestFSP, taps={**TestFSP.taps, "stage2": shape}, teacher_taps=TestFSP.taps)
    with pytest.raises(UserError, match=message):
        case.case()
