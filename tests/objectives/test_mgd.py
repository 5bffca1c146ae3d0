"""Masked generative distillation (Yang et al. 2022) against NumPy float64."""

from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_batch
from contract import Contract

from kd.errors import UserError
from kd.objectives.mgd import MaskedGenerative, mgd, random_mask
from kd.objectives.setting import Setting
from kd.types import Outputs

SETTING = Setting(5, torch.arange(10) % 5)


def convolved(maps, layer):
    """Padded convolution of [B, C, H, W], one kernel entry at a time, in float64."""
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    size = weight.shape[2]
    border = size // 2
    height, width = maps.shape[2:]
    padded = np.pad(maps, ((0, 0), (0, 0), (border, border), (border, border)))
    result = np.zeros((len(maps), len(weight), height, width)) + bias[None, :, None, None]
    for i in range(size):
        for j in range(size):
            window = padded[:, :, i : i + height, j : j + width]
            result += np.einsum("oc,bchw->bohw", weight[:, :, i, j], window)
    return result


class TestPositions(Contract):
    taps: ClassVar = {"stage3": (4, 3, 3)}
    at_teacher = None  # the generator is not the identity
    batch_order_matters = True  # the mask is drawn per position in the batch

    def make(self):
        return MaskedGenerative("stage3", masked=0.4)

    def mask(self, student, objective):
        torch.manual_seed(1)  # as in Contract.value
        return (torch.rand(6, 1, 3, 3).numpy() >= 0.4).astype(float)

    def aligned(self, maps, objective):
        return maps

    def reference(self, student, teacher, target, objective):
        ours = self.aligned(student.taps["stage3"], objective)
        first, _, second = objective.generator
        masked = ours * self.mask(ours, objective)
        generated = convolved(np.maximum(convolved(masked, first), 0), second)
        return ((generated - teacher.taps["stage3"]) ** 2).mean()


class TestChannels(TestPositions):
    def make(self):
        return MaskedGenerative("stage3", masked=0.3, variant="channels")

    def mask(self, student, objective):
        torch.manual_seed(1)
        return (torch.rand(6, 4, 1, 1).numpy() >= 0.3).astype(float)


class TestOtherChannelsAndSize(TestPositions):
    taps: ClassVar = {"stage3": (2, 6, 6)}
    teacher_taps: ClassVar = {"stage3": (5, 3, 3)}

    def aligned(self, maps, objective):
        return convolved(maps.reshape(6, 2, 3, 2, 3, 2).mean((3, 5)), objective.align)


@pytest.mark.parametrize(
    ("variant", "shape"), [("paper", (8, 1, 9, 9)), ("channels", (8, 7, 1, 1))]
)
def test_mask_covers_whole_positions_or_whole_channels(variant, shape):
    mask = random_mask(torch.randn(8, 7, 9, 9), 0.5, variant)
    assert mask.shape == shape
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_share_of_zeros_is_the_configured_one():
    torch.manual_seed(0)
    assert random_mask(torch.zeros(50, 3, 40, 40), 0.65).mean().item() == pytest.approx(
        0.35, abs=0.01
    )
    assert random_mask(torch.zeros(5, 3, 4, 4), 0.0).min().item() == 1.0


def test_each_step_draws_a_new_mask():
    torch.manual_seed(0)
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"stage3": torch.randn(2, 3, 4, 4)}) for _ in range(2)
    )
    objective = MaskedGenerative("stage3")
    objective.build(student, teacher, SETTING)
    batch = make_batch(torch.zeros(2, dtype=torch.long))
    assert objective(student, teacher, batch).item() != objective(student, teacher, batch).item()


def test_the_generator_finds_the_teachers_map_at_masked_positions_of_unseen_images():
    """Maps whose neighbours agree; a generator without the other positions could only guess."""
    torch.manual_seed(0)
    teacher = F.interpolate(torch.randn(96, 3, 2, 2), size=6, mode="bilinear")
    student = torch.einsum("oc,bchw->bohw", torch.randn(4, 3), teacher)
    objective = MaskedGenerative("stage3", masked=0.5)
    sides = [Outputs(torch.zeros(96, 5), {"stage3": maps}) for maps in (student, teacher)]
    objective.build(sides[0], sides[1], SETTING)

    def missing():
        """Squared error at masked positions, relative to that of the mean map."""
        mask = random_mask(teacher[64:], 0.5)
        with torch.no_grad():
            generated = objective.generator(objective.align(student[64:]) * mask)
        hidden = (1 - mask).expand_as(generated).bool()
        spread = (teacher[64:] - teacher[:64].mean(0))[hidden].square().mean()
        return ((generated - teacher[64:])[hidden].square().mean() / spread).item()

    assert missing() > 0.9
    optimizer = torch.optim.Adam(objective.parameters(), 0.01)
    batch = make_batch(torch.zeros(64, dtype=torch.long))
    seen = [Outputs(side.logits[:64], {"stage3": side.taps["stage3"][:64]}) for side in sides]
    for _ in range(300):
        optimizer.zero_grad()
        objective(seen[0], seen[1], batch).backward()
        optimizer.step()
    assert missing() < 0.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masked": 1.0}, r"masked must be a fraction in \[0, 1\), got 1.0"),
        ({"masked": -0.1}, r"masked must be a fraction in \[0, 1\), got -0.1"),
        ({"variant": "chanels"}, r"variant must be one of \['paper', 'channels'\], got 'chanels'"),
    ],
)
def test_invalid_settings_raise(options, message):
    with pytest.raises(ValueError, match=message):
        MaskedGenerative("stage3", **options)


def test_vectors_raise():
    student, teacher = (
        Outputs(torch.zeros(2, 5), {"stage3": torch.zeros(s)}) for s in ((2, 3), (2, 3, 4, 4))
    )
    with pytest.raises(UserError, match=r"mgd needs maps.*'stage3'; the student has \[2, 3\]"):
        MaskedGenerative("stage3").build(student, teacher, SETTING)


def test_function_rejects_an_unknown_variant():
    with pytest.raises(ValueError, match=r"variant must be one of .*got 'other'"):
        mgd(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.relu, variant="other")
