"""Wang et al. 2020: attentive feature distillation."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.errors import UserError
from kd.objectives.afd import AttentiveFeatures, attention_weights, channel_distance
from kd.objectives.setting import Setting
from kd.types import Outputs

SETTING = Setting(5, torch.arange(10) % 5)


def scores(image, attention):
    """A two-layer net on a map's channel means, in float64."""
    first, _, second = attention
    vector = np.array([channel.mean() for channel in image])
    for layer, floor in ((first, 0.0), (second, -np.inf)):
        weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
        vector = np.maximum(weight @ vector + bias, floor)
    return vector


def distance(student, teacher, attention, shape):
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        importance = shape(scores(theirs, attention))
        for rho, s, t in zip(importance / importance.sum(), ours, theirs, strict=True):
            gap = s / np.sqrt((s**2).sum()) - t / np.sqrt((t**2).sum())
            total += rho * (gap**2).sum()
    return total / len(teacher)


class TestAttentiveFeatures(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4), "stage2": (4, 2, 2)}

    def make(self):
        return AttentiveFeatures(["stage1", "stage2"])

    def reference(self, student, teacher, target, objective):
        return sum(
            distance(student.taps[tap], teacher.taps[tap], objective.attentions[tap], np.exp)
            for tap in self.taps
        )


class TestSigmoid(Contract):
    taps: ClassVar = {"stage1": (3, 4, 4)}

    def make(self):
        return AttentiveFeatures(["stage1"], variant="sigmoid")

    def reference(self, student, teacher, target, objective):
        maps = (student.taps["stage1"], teacher.taps["stage1"])
        return distance(*maps, objective.attentions["stage1"], lambda x: 1 / (1 + np.exp(-x)))


class TestOtherChannelsAndSize(Contract):
    taps: ClassVar = {"stage1": (2, 6, 6)}
    teacher_taps: ClassVar = {"stage1": (5, 3, 3)}

    def make(self):
        return AttentiveFeatures(["stage1"])

    def reference(self, student, teacher, target, objective):
        pooled = student.taps["stage1"].reshape(6, 2, 3, 2, 3, 2).mean((3, 5))
        weight = objective.aligns["stage1"].weight.detach().double().numpy()[:, :, 0, 0]
        ours = np.einsum("oc,bchw->bohw", weight, pooled)
        return distance(ours, teacher.taps["stage1"], objective.attentions["stage1"], np.exp)


@pytest.mark.parametrize("variant", ["paper", "sigmoid"])
@pytest.mark.parametrize("level", [0.0, -200.0, 200.0])
def test_weights_are_shares_at_any_level(variant, level):
    weights = attention_weights(torch.randn(4, 7) + level, variant)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert weights.min() > 0


def test_a_channels_scale_does_not_matter_and_its_weight_does():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    even = torch.full((2, 3), 1 / 3)
    scaled = channel_distance(student * torch.tensor([1.0, 5, 9]).view(1, 3, 1, 1), teacher, even)
    torch.testing.assert_close(scaled, channel_distance(student, teacher, even))
    matched = torch.cat([teacher[:, :1], student[:, 1:]], 1)
    only_first = torch.tensor([[1.0, 0, 0]] * 2)
    assert channel_distance(matched, teacher, only_first).item() == pytest.approx(0, abs=1e-6)
    assert channel_distance(matched, teacher, even).item() > 0.1


def test_opposite_channels_are_at_distance_four():
    maps = torch.randn(2, 3, 4, 4)
    weights = attention_weights(torch.randn(2, 3))
    assert channel_distance(-maps, maps, weights).item() == pytest.approx(4.0, rel=1e-5)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="no stage in common"):
        AttentiveFeatures([])
    with pytest.raises(ValueError, match=r"one of \['paper', 'sigmoid'\], got 'sigmod'"):
        AttentiveFeatures(["stage1"], variant="sigmod")
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"stage1": torch.zeros(s)}) for s in ((2, 3), (2, 3, 4, 4))
    )
    with pytest.raises(UserError, match=r"afd needs maps.*'stage1'; the student has \[2, 3\]"):
        AttentiveFeatures(["stage1"]).build(student, teacher, SETTING)
