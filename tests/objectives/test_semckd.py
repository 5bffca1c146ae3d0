"""Cross-layer distillation with semantic calibration (Chen et al. 2021), by loops over images."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from support import gradient

from kd.errors import UserError
from kd.objectives.semckd import SemanticCalibration, similarity_rows, stage_attention
from kd.objectives.setting import Setting
from kd.types import Outputs

SETTING = Setting(5, torch.arange(10) % 5)


def parameters(layer):
    return [p.detach().double().numpy() for p in layer.parameters()]


def embedded(maps, mlp):
    """Unit vectors [B, D], embedded from each image's similarities to all images."""
    (w1, b1), (w2, b2) = parameters(mlp[0]), parameters(mlp[2])
    vectors = []
    for image in maps:
        row = np.array([(image * other).sum() for other in maps])
        vector = w2 @ np.maximum(w1 @ row + b1, 0) + b2
        vectors.append(vector / np.sqrt((vector**2).sum()))
    return vectors


def convolved(maps, weight):
    size, (height, width) = weight.shape[2], maps.shape[2:]
    border = size // 2
    padded = np.pad(maps, ((0, 0), (0, 0), (border, border), (border, border)))
    return sum(
        np.einsum("oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width])
        for i in range(size)
        for j in range(size)
    )


def projected(maps, layers):
    """Two convolutions with batch norm and ReLU, then a plain one, in float64."""
    for convolution in (layers[0], layers[3]):
        maps = convolved(maps, parameters(convolution)[0])
        centred = maps - maps.mean((0, 2, 3), keepdims=True)
        maps = np.maximum(centred / np.sqrt(maps.var((0, 2, 3), keepdims=True) + 1e-5), 0)
    return convolved(maps, parameters(layers[6])[0])


def pooled(maps, size):
    """Maps averaged down to `size` × `size` positions."""
    step = maps.shape[2] // size
    return maps.reshape(*maps.shape[:2], size, step, size, step).mean((3, 5))


class TestSemanticCalibration(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (4, 2, 2)}
    teacher_taps: ClassVar = {"stage1": (2, 4, 4), "stage2": (5, 2, 2), "stage3": (3, 2, 2)}
    batch = 12
    batch_order_matters = True  # each column of an MLP's input belongs to a position in the batch

    def make(self):
        return SemanticCalibration(["stage1", "stage2"], ["stage1", "stage2", "stage3"], 12)

    def reference(self, student, teacher, target, objective):
        queries = [embedded(student.taps[s], objective.queries[s]) for s in self.taps]
        keys = [embedded(teacher.taps[t], objective.keys[t]) for t in self.teacher_taps]
        total = 0.0
        for s, query in zip(self.taps, queries, strict=True):
            gaps = [self.gaps(student, teacher, s, t, objective) for t in self.teacher_taps]
            for image in range(12):
                powers = [np.exp(query[image] @ key[image]) for key in keys]
                weights = [power / sum(powers) for power in powers]
                total += sum(a * gap[image] for a, gap in zip(weights, gaps, strict=True))
        return total / (12 * len(self.taps))

    def gaps(self, student, teacher, s, t, objective):
        ours, theirs = student.taps[s], teacher.taps[t]
        size = min(ours.shape[2], theirs.shape[2])
        layers = list(objective.projections[f"{s}-{t}"])
        return ((projected(pooled(ours, size), layers) - pooled(theirs, size)) ** 2).mean((1, 2, 3))


@pytest.mark.parametrize("width", [4, 6, 9])
def test_similarities_of_any_batch_size_are_folded_to_one_width(width):
    """Image j goes to column j mod N, scaled by N/B."""
    torch.manual_seed(0)
    maps = torch.randn(6, 2, 3, 3)
    expected = torch.zeros(6, width)
    for i in range(6):
        for j in range(6):
            expected[i, j % width] += (maps[i] * maps[j]).sum() * width / 6
    torch.testing.assert_close(similarity_rows(maps, width), expected)


def test_a_batch_as_large_as_the_width_is_not_folded():
    maps = torch.randn(6, 2, 3, 3)
    torch.testing.assert_close(similarity_rows(maps, 6), maps.flatten(1) @ maps.flatten(1).T)


def two_outputs(images):
    torch.manual_seed(0)
    shapes = {"stage1": (3, 4, 4), "stage2": (4, 2, 2)}
    return [
        Outputs(torch.randn(images, 5), {k: torch.randn(images, *v) for k, v in shapes.items()})
        for _ in range(2)
    ]


def test_repeating_the_batch_does_not_matter():
    student, teacher = two_outputs(6)
    objective = SemanticCalibration(["stage1", "stage2"], ["stage1", "stage2"], 6)
    objective.build(student, teacher, SETTING)
    twice = [
        Outputs(t.logits.repeat(2, 1), {k: v.repeat(2, 1, 1, 1) for k, v in t.taps.items()})
        for t in (student, teacher)
    ]
    attention = objective.attention(*twice)
    torch.testing.assert_close(attention[6:], attention[:6])
    torch.testing.assert_close(attention[:6], objective.attention(student, teacher))
    batch = [make_batch(torch.zeros(n)) for n in (6, 12)]
    torch.testing.assert_close(
        objective(*twice, batch[1]), objective(student, teacher, batch[0]), rtol=1e-4, atol=1e-5
    )


def test_attention_sums_to_one_over_the_teachers_stages():
    torch.manual_seed(0)
    queries, keys = torch.randn(6, 2, 4), torch.randn(6, 3, 4)
    attention = stage_attention(queries, keys)
    torch.testing.assert_close(attention.sum(2), torch.ones(6, 2))
    torch.testing.assert_close(stage_attention(5 * queries, 0.2 * keys), attention)
    alike = stage_attention(keys[:, :1], keys)
    assert (alike.argmax(2) == 0).all()


def test_attention_and_projections_receive_gradients():
    student, teacher = two_outputs(6)
    objective = SemanticCalibration(["stage1", "stage2"], ["stage1", "stage2"], 32)
    objective.build(student, teacher, SETTING)
    objective(student, teacher, make_batch(torch.zeros(6))).backward()
    for modules in (objective.queries, objective.keys, objective.projections):
        assert all(gradient(p).abs().sum() > 0 for p in modules.parameters() if p.dim() > 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (([], ["stage1"], 4), r"must each name a tap, got \[\] and \['stage1'\]"),
        ((["stage1"], [], 4), r"must each name a tap, got \['stage1'\] and \[\]"),
        ((["stage1"], ["stage1"], 0), "batch_size must be a whole number ≥ 1, got 0"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        SemanticCalibration(*options)


def test_vectors_raise():
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"stage1": torch.zeros(s)}) for s in ((2, 3), (2, 3, 4, 4))
    )
    with pytest.raises(UserError, match=r"semckd needs maps.*'stage1'; the student has \[2, 3\]"):
        SemanticCalibration(["stage1"], ["stage1"], 2).build(student, teacher, SETTING)


@pytest.mark.parametrize("place", [0, 1])
def test_attention_learns_which_stage_the_student_can_match(place):
    """One of two stages is a mix of the student's channels, the other one noise."""
    torch.manual_seed(0)
    ours = torch.randn(16, 3, 4, 4)
    matching = torch.einsum("oc,bchw->bohw", torch.randn(4, 3), ours)
    maps = [torch.randn(16, 4, 4, 4) * matching.std() for _ in range(2)]
    maps[place] = matching
    stages = ["stage1", "stage2"]
    student = Outputs(torch.zeros(16, 5), {"stage1": ours})
    teacher = Outputs(torch.zeros(16, 5), dict(zip(stages, maps, strict=True)))
    objective = SemanticCalibration(["stage1"], stages, 16)
    objective.build(student, teacher, SETTING)
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    before = objective.attention(student, teacher)[:, 0, place].mean().item()
    for _ in range(60):
        optimizer.zero_grad()
        objective(student, teacher, make_batch(torch.zeros(16))).backward()
        optimizer.step()
    after = objective.attention(student, teacher)[:, 0, place]
    assert after.mean() > before + 0.1
    assert after.mean() > 0.65
    assert (after > 0.5).sum() > 12, "of 16 images"
