"""Cao et al. 2022: correlation of channels."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract

from kd.objectives.pkd_features import PearsonFeatures, pkd_features


def one_minus_correlation(student, teacher):
    """Mean over channels of 1 − r of maps [B, C, H, W]."""
    channels = zip(student.swapaxes(0, 1), teacher.swapaxes(0, 1), strict=True)
    return np.mean([1 - np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in channels])


class TestPearson(Contract):
    taps: ClassVar = {"p3": (4, 4, 4), "p4": (4, 2, 2)}

    def make(self):
        return PearsonFeatures(["p3", "p4"])

    def reference(self, student, teacher, target, objective):
        return sum(one_minus_correlation(student.taps[p], teacher.taps[p]) for p in ("p3", "p4"))


class TestOtherChannelsAndSize(Contract):
    taps: ClassVar = {"p3": (3, 4, 4)}
    teacher_taps: ClassVar = {"p3": (5, 2, 2)}

    def make(self):
        return PearsonFeatures(["p3"])

    def reference(self, student, teacher, target, objective):
        pooled = student.taps["p3"].reshape(6, 3, 2, 2, 2, 2).mean((3, 5))
        weight = objective.align["p3"].weight.detach().double().numpy()[:, :, 0, 0]
        return one_minus_correlation(np.einsum("oc,bchw->bohw", weight, pooled), teacher.taps["p3"])


def test_opposite_maps_have_the_largest_value():
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 4, 4)
    assert pkd_features(-2 * maps + 1, maps).item() == pytest.approx(2, abs=1e-4)
