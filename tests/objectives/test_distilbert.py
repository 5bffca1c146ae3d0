"""DistilBERT's hidden cosine (Sanh et al. 2019) against plain Python loops."""

import math
from typing import ClassVar

import pytest
import torch
from support import UNUSED
from token_contract import TokenContract

from kd.objectives.distilbert import HiddenCosine, MaskedWords, distilbert
from kd.objectives.setting import Setting
from kd.types import Outputs


def distance(x, y):
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return 1 - dot / math.hypot(*x) / math.hypot(*y)


class TestSameWidth(TokenContract):
    taps: ClassVar = {"layer_1": (5, 4), "layer_2": (5, 4)}
    positions: ClassVar = {"layer_1": (0,), "layer_2": (0,)}

    def make(self):
        return HiddenCosine(["layer_1", "layer_2"])

    def formula(self, student, teacher, tokens, objective):
        total = 0.0
        for tap, projector in objective.projectors.items():
            weight = getattr(projector, "weight", None)
            for i, count in enumerate(tokens):
                for j in range(count):
                    own = student.taps[tap][i, j]
                    if weight is not None:
                        own = weight.detach().double().numpy() @ own
                    total += distance(own, teacher.taps[tap][i, j]) / count
        return total / len(tokens) / len(objective.projectors)


class TestOtherWidthAndLayer(TestSameWidth):
    taps: ClassVar = {"layer_1": (5, 3)}
    teacher_taps: ClassVar = {"layer_1": (5, 6)}
    positions: ClassVar = {"layer_1": (0,)}

    def make(self):
        return HiddenCosine(["layer_1:layer_4"])


class TestVectors(TestSameWidth):
    taps: ClassVar = {"embedding": (3,)}
    teacher_taps: ClassVar = {"embedding": (4,)}
    positions: ClassVar = {}

    def make(self):
        return HiddenCosine(["embedding"])

    def formula(self, student, teacher, tokens, objective):
        for answer in (student, teacher):
            answer.taps["embedding"] = answer.taps["embedding"][:, None]
        return super().formula(student, teacher, [1] * len(tokens), objective)


def test_length_of_states_does_not_matter():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.ones(2, 3, dtype=torch.bool)
    scaled = distilbert(7 * student, 0.1 * teacher, mask)
    torch.testing.assert_close(scaled, distilbert(student, teacher, mask))


def test_images_are_refused():
    outputs = Outputs(torch.zeros(2, 3), {"layer_1": torch.zeros(2, 5, 4)})
    with pytest.raises(ValueError, match=r"compares the tokens of a text.*data=text"):
        HiddenCosine(["layer_1"]).build(outputs, outputs, Setting(3, torch.arange(4)))


def test_nets_without_layers_are_refused():
    with pytest.raises(ValueError, match=r"have no layer_1.*transformer_mini"):
        HiddenCosine([])


def test_masked_words_are_a_mean_over_those_that_are_hidden():
    errors = torch.tensor([[2.0, -1.0], [4.0, 6.0]])
    value = MaskedWords()(Outputs(torch.zeros(2, 3), {"masked_words": errors}), UNUSED, UNUSED)
    assert value.item() == 4
    none = Outputs(torch.zeros(2, 3), {"masked_words": -torch.ones(2, 2)})
    assert MaskedWords()(none, UNUSED, UNUSED).item() == 0
