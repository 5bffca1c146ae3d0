"""TinyBERT (Jiao et al. 2020) against plain Python loops."""

from typing import Any, ClassVar

import pytest
import torch
from token_contract import TokenContract

from kd.objectives.setting import Setting
from kd.objectives.tinybert import TinyBERT
from kd.types import Outputs


class TestLayersAndAttention(TokenContract):
    taps: ClassVar = {"embeddings": (5, 3), "layer_1": (5, 3), "attention_1": (2, 5, 5)}
    teacher_taps: ClassVar[Any] = {
        "embeddings": (5, 4),
        "layer_1": (5, 4),
        "attention_1": (2, 5, 5),
    }
    positions: ClassVar = {"embeddings": (0,), "layer_1": (0,), "attention_1": (1, 2)}

    def make(self):
        return TinyBERT(["embeddings", "layer_1:layer_2"], ["attention_1:attention_2"])

    def formula(self, student, teacher, tokens, objective):
        total = 0.0
        for i, count in enumerate(tokens):
            for tap, projector in objective.projectors.items():
                weight = getattr(projector, "weight", None)
                for j in range(count):
                    own, other = student.taps[tap][i, j], teacher.taps[tap][i, j]
                    if weight is not None:
                        own = weight.detach().double().numpy() @ own
                    squares = [(a - b) ** 2 for a, b in zip(own, other, strict=True)]
                    total += sum(squares) / len(squares) / count
            for tap in student.taps:
                if not tap.startswith("attention"):
                    continue
                own, other = student.taps[tap][i], teacher.taps[tap][i]
                for head in range(len(own)):
                    for j in range(count):
                        for k in range(count):
                            error = (own[head, j, k] - other[head, j, k]) ** 2
                            total += error / len(own) / count**2
        return total / len(tokens)


class TestHiddenOnly(TestLayersAndAttention):
    taps: ClassVar = {"layer_1": (5, 4), "layer_2": (5, 4)}
    teacher_taps: ClassVar[Any] = None
    positions: ClassVar = {"layer_1": (0,), "layer_2": (0,)}

    def make(self):
        return TinyBERT(["layer_1", "layer_2"], [])


def test_other_numbers_of_heads_are_refused():
    student, teacher = (
        Outputs(torch.zeros(2, 3), {"layer_1": torch.zeros(2, 5, 4), "attention_1": attention})
        for attention in (torch.zeros(2, 2, 5, 5), torch.zeros(2, 12, 5, 5))
    )
    setting = Setting(3, torch.arange(4), pad_index=0)
    with pytest.raises(ValueError, match=r"2 heads, the teacher 12.*student.net.heads=12"):
        TinyBERT(["layer_1"], ["attention_1"]).build(student, teacher, setting)
