"""Patient KD (Sun et al. 2019) against plain Python loops."""

import math
from typing import ClassVar

import torch
from token_contract import TokenContract

from kd.objectives.pkd import Patience, pkd


def unit(row):
    return [x / math.hypot(*row) for x in row]


class TestSameWidth(TokenContract):
    taps: ClassVar = {"layer_1": (5, 4), "layer_2": (5, 4)}
    positions: ClassVar = {"layer_1": (0,), "layer_2": (0,)}

    def make(self):
        return Patience(["layer_1", "layer_2"])

    def formula(self, student, teacher, tokens, objective):
        total = 0.0
        for tap, projector in objective.projectors.items():
            weight = getattr(projector, "weight", None)
            for i in range(len(tokens)):
                own = student.taps[tap][i, 0]
                if weight is not None:
                    own = weight.detach().double().numpy() @ own
                pairs = zip(unit(own), unit(teacher.taps[tap][i, 0]), strict=True)
                total += sum((a - b) ** 2 for a, b in pairs)
        return total / len(tokens)


class TestOtherWidthAndLayer(TestSameWidth):
    taps: ClassVar = {"layer_1": (5, 3)}
    teacher_taps: ClassVar = {"layer_1": (5, 6)}
    positions: ClassVar = {"layer_1": (0,)}

    def make(self):
        return Patience(["layer_1:layer_2"])


def test_length_of_states_does_not_matter():
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    scaled = pkd([7 * student], [0.1 * teacher])
    torch.testing.assert_close(scaled, pkd([student], [teacher]))
