"""Shu et al. 2021: channels as distributions over positions."""

import math
from typing import ClassVar

import pytest
import torch
from contract import Contract

from kd.errors import UserError
from kd.objectives.cwd import ChannelWise, cwd
from kd.objectives.setting import Setting
from kd.types import Outputs

SETTING = Setting(5, torch.arange(10) % 5)


def spatial_softmax(channel, temperature):
    powers = [math.exp(v / temperature) for v in channel.flatten()]
    return [p / sum(powers) for p in powers]


def divergence(student, teacher, temperature):
    """Plain loops over images, channels and positions of [B, C, H, W]."""
    total = 0.0
    for image_s, image_t in zip(student, teacher, strict=True):
        for channel_s, channel_t in zip(image_s, image_t, strict=True):
            p = spatial_softmax(channel_t, temperature)
            q = spatial_softmax(channel_s, temperature)
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / (student.shape[0] * student.shape[1])


class TestChannelWise(Contract):
    taps: ClassVar = {"stage3": (4, 3, 3)}

    def make(self):
        return ChannelWise("stage3", temperature=2.0)

    def reference(self, student, teacher, target, objective):
        return divergence(student.taps["stage3"], teacher.taps["stage3"], 2.0)


class TestOtherChannelsAndSize(Contract):
    taps: ClassVar = {"stage3": (3, 4, 4)}
    teacher_taps: ClassVar = {"stage3": (5, 2, 2)}

    def make(self):
        return ChannelWise("stage3", temperature=1.5)

    def reference(self, student, teacher, target, objective):
        pooled = student.taps["stage3"].reshape(6, 3, 2, 2, 2, 2).mean((3, 5))
        weight = objective.align.weight.detach().double().numpy()[:, :, 0, 0]
        mapped = sum(pooled[:, None, c] * weight[None, :, c, None, None] for c in range(3))
        return divergence(mapped, teacher.taps["stage3"], 1.5)


def test_a_channels_level_does_not_matter():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    shifted = cwd(student + torch.randn(2, 3, 1, 1), teacher, 4.0)
    torch.testing.assert_close(shifted, cwd(student, teacher, 4.0))


def test_high_temperature_is_the_squared_distance_of_centred_maps():
    """T²·KL tends to Σ (s − t)² / (2·H·W) over positions."""
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 4, 4, dtype=torch.float32) for _ in range(2)]
    centred = [m - m.mean((2, 3), keepdim=True) for m in maps]
    limit = (centred[0] - centred[1]).square().mean((2, 3)).mean() / 2
    assert cwd(maps[0], maps[1], 50.0).item() == pytest.approx(limit.item(), rel=0.02)


@pytest.mark.parametrize("temperature", [0, -1.0, "warm"])
def test_constructor_refuses_nonsense(temperature):
    with pytest.raises(ValueError, match="temperature must be a number > 0"):
        ChannelWise("stage3", temperature)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((2, 3), (2, 3, 4, 4), r"tap 'stage3'; the student has \[2, 3\].*teacher.*\[2, 3, 4, 4\]"),
        ((2, 3, 4, 4), (2, 7), r"student.*\[2, 3, 4, 4\], the teacher \[2, 7\]"),
        ((2, 3, 4, 4), (2, 3, 1, 1), r"only one: \[2, 3, 1, 1\]"),
    ],
)
def test_what_has_no_positions_is_refused(student, teacher, message):
    logits = torch.zeros(2, 5)
    ours, theirs = (Outputs(logits, {"stage3": torch.zeros(shape)}) for shape in (student, teacher))
    with pytest.raises(UserError, match=message):
        ChannelWise("stage3").build(ours, theirs, SETTING)


def test_a_single_position_of_the_student_is_named(caplog):
    logits = torch.zeros(2, 5)
    shapes = (2, 3, 1, 1), (2, 3, 4, 4)
    ours, theirs = (Outputs(logits, {"stage3": torch.zeros(shape)}) for shape in shapes)
    ChannelWise("stage3").build(ours, theirs, SETTING)
    assert "student's map [3, 1, 1] at tap stage3 has one" in caplog.text


def test_the_teachers_shapes_alone_choose_the_pair():
    logits = torch.zeros(2, 5)
    maps = {"stage1": torch.zeros(2, 3, 4, 4), "stage2": torch.zeros(2, 3, 2, 2)}
    teacher = Outputs(logits, maps | {"stage3": torch.zeros(2, 3, 1, 1)})
    objective = ChannelWise("stage3", earlier=["stage1", "stage2", "stage3"])
    objective.select_taps(teacher)
    assert objective.student_taps == objective.teacher_taps == ("stage2",)
