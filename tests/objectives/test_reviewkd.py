"""Knowledge review (Chen et al. 2021, CVPR), with every layer written again in NumPy."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract, altered, as_leaves
from support import gradient
from torch import nn

from kd.errors import UserError
from kd.objectives.reviewkd import KnowledgeReview, fuse, hierarchical_distance


def array(parameter):
    return parameter.detach().double().numpy()


def normalised(maps):
    mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
    return (maps - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)


def pointwise(maps, weight):
    return np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], maps)


def convolve(maps, weight):
    """3×3, padding 1: each output sums its neighbours."""
    height, width = maps.shape[2:]
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(maps), len(weight), height, width))
    for y in range(height):
        for x in range(width):
            patch = padded[:, :, y : y + 3, x : x + 3]
            out[:, :, y, x] = np.einsum("ocij,bcij->bo", weight, patch)
    return out


def repeated(maps, size):
    factors = size[0] // maps.shape[2], size[1] // maps.shape[3]
    return maps.repeat(factors[0], axis=2).repeat(factors[1], axis=3)


def pooled(maps, size):
    batch, channels, height, width = maps.shape
    cut = maps.reshape(batch, channels, size, height // size, size, width // size)
    return cut.mean((3, 5))


def hierarchical(student, teacher, sizes):
    """The map has weight 1, each pool half the weight of the one before."""
    weights, total = 1.0, ((student - teacher) ** 2).mean()
    for number, size in enumerate(sizes, 1):
        weight = 1 / 2**number
        total += weight * ((pooled(student, size) - pooled(teacher, size)) ** 2).mean()
        weights += weight
    return total / weights


class TestReview(Contract):
    taps: ClassVar = {"stage1": (3, 8, 8), "stage2": (4, 4, 4), "stage3": (5, 2, 2)}
    teacher_taps: ClassVar = {"stage1": (6, 8, 8), "stage2": (4, 4, 4), "stage3": (7, 2, 2)}
    pools: ClassVar = {"stage1": [4, 2, 1], "stage2": [2, 1], "stage3": [1], "embedding": []}

    def make(self):
        return KnowledgeReview(["stage1", "stage2", "stage3"])

    def reference(self, student, teacher, target, objective):
        total, later = 0.0, None
        for tap in reversed(list(self.taps)):
            ours, theirs = student.taps[tap], teacher.taps[tap]
            if ours.ndim == 2:
                ours, theirs = (x[:, :, None, None] for x in (ours, theirs))
            here = normalised(pointwise(ours, array(objective.reduce[tap][0].weight)))
            if later is not None:
                later = repeated(later, here.shape[2:])
                weight, bias = (array(p) for p in objective.gates[tap].parameters())
                logits = pointwise(np.concatenate([here, later], 1), weight) + bias[:, None, None]
                z = 1 / (1 + np.exp(-logits))
                here = here * z[:, [0]] + later * z[:, [1]]
            later = here
            out = normalised(convolve(here, array(objective.expand[tap][0].weight)))
            total += hierarchical(out, theirs, self.pools[tap])
        return total


class TestWithEmbedding(TestReview):
    taps: ClassVar = {**TestReview.taps, "embedding": (5,)}
    teacher_taps: ClassVar = {**TestReview.teacher_taps, "embedding": (7,)}
    refuses_one_image = "more than 1 value per channel"

    def make(self):
        return KnowledgeReview(["stage1", "stage2", "stage3"], last_tap="embedding")


def test_distance_penalises_an_error_of_the_mean_more_than_one_of_a_pixel():
    """An error of 1 everywhere costs 1; the same sum of squares in one pixel costs less."""
    zeros = torch.zeros(1, 1, 4, 4)
    pixel = zeros.clone()
    pixel[..., 0, 0] = 4
    assert hierarchical_distance(zeros + 1, zeros) == 1
    # 1·1 + ½·(1² / 4) + ¼·(¼)² over 1 + ½ + ¼
    expected = (1 + 0.5 * 0.25 + 0.25 / 16) / 1.75
    assert hierarchical_distance(pixel, zeros).item() == pytest.approx(expected)


def test_one_position_gives_the_mean_squared_error():
    torch.manual_seed(0)
    ours, theirs = torch.randn(3, 4, 1, 1), torch.randn(3, 4, 1, 1)
    torch.testing.assert_close(hierarchical_distance(ours, theirs), (ours - theirs).square().mean())


class ConstantGate(nn.Module):
    """The same two attention weights at every position."""

    def __init__(self, choice):
        super().__init__()
        self.choice = torch.tensor(choice)

    def forward(self, both):
        assert both.shape == (1, 4, 3, 3)
        return self.choice[None, :, None, None].expand(1, 2, 3, 3)


def test_attention_maps_weight_the_two_inputs():
    here, later = torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), 5.0)
    for choice, expected in (((1.0, 0.0), 1.0), ((0.0, 1.0), 5.0), ((0.5, 0.5), 3.0)):
        assert (fuse(here, later, ConstantGate(choice)) == expected).all()


def test_first_teacher_stage_has_a_gradient_in_all_student_stages():
    objective, student, teacher, _ = TestReview().case()
    student = as_leaves(student, True)
    terms = []
    objective.expand["stage1"].register_forward_hook(lambda m, i, out: terms.append(out))
    objective(student, teacher, None)
    hierarchical_distance(terms[0], teacher.taps["stage1"]).backward()
    assert all(gradient(tap).abs().sum() > 0 for tap in student.taps.values())


def test_fusion_is_at_most_512_channels_wide():
    shapes = {"stage1": (3, 4, 4), "stage2": (600, 2, 2)}
    case = altered(
        TestReview,
        taps=shapes,
        teacher_taps=shapes,
        make=lambda: KnowledgeReview(["stage1", "stage2"]),
    )
    objective, *_ = case.case(batch=2)
    assert objective.reduce["stage1"][0].weight.shape == (512, 3, 1, 1)
    assert list(objective.gates) == ["stage1"]


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((3, 8, 8), (5, 4, 4)), ((3, 2, 2), (5, 5, 3)), ((6,), (5, 4, 4)), ((3, 4, 4), (9,))],
)
def test_shapes_of_student_and_teacher_may_differ(student, teacher):
    case = altered(
        TestReview,
        taps={"stage1": student, "stage2": (4, 3, 3)},
        teacher_taps={"stage1": teacher, "stage2": (2, 2, 2)},
        make=lambda: KnowledgeReview(["stage1", "stage2"]),
    )
    objective, ours, theirs, batch = case.case()
    ours = as_leaves(ours, True)
    objective(ours, theirs, batch).backward()
    assert all(gradient(tap).abs().sum() > 0 for tap in ours.taps.values())


def test_empty_taps_and_sequences_raise():
    with pytest.raises(ValueError, match="no stage in common"):
        KnowledgeReview([], last_tap="embedding")
    case = altered(TestReview, taps={**TestReview.taps, "stage2": (4, 6)})
    with pytest.raises(UserError, match=r"'stage2'.*\[6, 4, 6\].*\[6, 4, 4, 4\]"):
        case.case()
