"""MiniLM (Wang et al. 2020) against plain Python loops."""

import math
from typing import Any, ClassVar

import pytest
import torch
from token_contract import TokenContract

from kd.objectives.minilm import LastLayer, attention_kl


def softmax(row):
    powers = [math.exp(x - max(row)) for x in row]
    return [x / sum(powers) for x in powers]


def divergence(teacher, student):
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def related(values, j, count):
    """The row j of softmax(V Vᵀ / √d) over the first tokens."""
    width = len(values[j])
    rows = [sum(a * b for a, b in zip(values[j], values[k], strict=True)) for k in range(count)]
    return softmax([x / math.sqrt(width) for x in rows])


class TestLastLayer(TokenContract):
    taps: ClassVar = {"attention_1": (2, 5, 5), "value_1": (2, 5, 3)}
    teacher_taps: ClassVar[Any] = {"attention_1": (2, 5, 5), "value_1": (2, 5, 6)}
    positions: ClassVar = {"attention_1": (1, 2), "value_1": (1,)}

    def make(self):
        return LastLayer("attention_1:attention_4", "value_1:value_4")

    def formula(self, student, teacher, tokens, objective):
        total = 0.0
        for i, count in enumerate(tokens):
            for head in range(2):
                own, other = (answer.taps["attention_1"][i, head] for answer in (student, teacher))
                values = [answer.taps["value_1"][i, head] for answer in (student, teacher)]
                for j in range(count):
                    kl = divergence(softmax(other[j, :count]), softmax(own[j, :count]))
                    kl += divergence(related(values[1], j, count), related(values[0], j, count))
                    total += kl / 2 / count
        return total / len(tokens)


class TestEqualNets(TestLastLayer):
    taps: ClassVar = {"attention_1": (2, 5, 5), "value_1": (2, 5, 3)}
    teacher_taps: ClassVar[Any] = None

    def make(self):
        return LastLayer("attention_1", "value_1")


def test_shift_of_scores_does_not_matter():
    torch.manual_seed(0)
    scores, other = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    mask = torch.ones(2, 4, dtype=torch.bool)
    shifted = attention_kl(scores + torch.randn(2, 3, 4, 1), other, mask)
    torch.testing.assert_close(shifted, attention_kl(scores, other, mask))


def test_nets_without_attention_are_refused():
    with pytest.raises(ValueError, match="attention_1 and value_1"):
        LastLayer("", "value_1")
