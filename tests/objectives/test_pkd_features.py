"""Cao et al. 2022: correlation of channels."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import make_batch
from contract import Contract
from support import built, composed

from kd.build.method import build_method
from kd.objectives.pkd_features import PearsonFeatures, pkd_features
from kd.objectives.setting import Setting
from kd.taps import Taps


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


def correlation(student, teacher):
    """Mean over the channels that are not constant, as those of a dead ReLU are."""
    alive = teacher.std((0, 2, 3)) > 0
    maps = (m.detach()[:, alive].double().numpy() for m in (student, teacher))
    return 1 - one_minus_correlation(*maps)


def test_in_classification_the_stages_come_to_correlate():
    """ResNet-8 of half the width learns the pattern of ResNet-8's channels, at any scale."""
    objectives = build_method(composed("method=pkd_features", "teacher=resnet8")).objectives
    objective = objectives["pearson"]
    assert isinstance(objective, PearsonFeatures)
    assert objective.student_taps == ("stage1", "stage2", "stage3")
    torch.manual_seed(0)
    nets = [built("resnet8", width=0.5), built("resnet8")]
    ours, theirs = (Taps(net, paths, objective.student_taps) for net, paths in nets)
    images = torch.randn(32, 1, 8, 8)
    with torch.no_grad():
        teacher = theirs.outputs(images)
    objective.build(ours.outputs(images), teacher, Setting(10, torch.arange(32) % 10))
    align: Any = objective.align
    assert isinstance(align["stage3"], torch.nn.Conv2d)
    parameters = [*ours.net.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.01)
    found = []
    for _ in range(40):
        student = ours.outputs(images)
        aligned = align["stage3"](student.taps["stage3"])
        found.append(correlation(aligned, teacher.taps["stage3"]))
        optimizer.zero_grad()
        objective(student, teacher, make_batch(torch.arange(32))).backward()
        optimizer.step()
    assert found[0] < 0.2
    assert found[-1] > 0.6


def test_images_are_classified_by_command_line(train):
    answer = train("method=pkd_features", "teacher=resnet8", "student=resnet8", "method.beta=1")
    assert answer.returncode == 0, answer.stderr
    assert "pearson" in answer.stdout
