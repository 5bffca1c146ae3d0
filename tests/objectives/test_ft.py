"""Kim et al. 2018, with every layer written again in NumPy."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract, altered, as_leaves
from support import gradient

from kd.errors import UserError
from kd.objectives.ft import FactorTransfer


def convolve(maps, weight):
    """3×3 convolution, padding 1, of [B, C, H, W] by [C', C, 3, 3]."""
    height, width = maps.shape[2:]
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = 0.0
    for i in range(3):
        for j in range(3):
            patch = padded[:, :, i : i + height, j : j + width]
            out = out + np.einsum("oc,bchw->bohw", weight[:, :, i, j], patch)
    return out


def scatter(maps, weight):
    """The transpose: every input position spreads over its 3×3 neighbourhood; [C, C', 3, 3]."""
    batch, _, height, width = maps.shape
    out = np.zeros((batch, weight.shape[1], height + 2, width + 2))
    for i in range(3):
        for j in range(3):
            spread = np.einsum("co,bchw->bohw", weight[:, :, i, j], maps)
            out[:, :, i : i + height, j : j + width] += spread
    return out[:, :, 1:-1, 1:-1]


def layers(modules, maps, step):
    """Three times: `step`, batch norm with fresh affine parameters, leaky ReLU."""
    weights = [p.detach().double().numpy() for p in modules.parameters() if p.dim() == 4]
    assert len(weights) == 3
    for weight in weights:
        maps = step(maps, weight)
        mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3))
        maps = (maps - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
        maps = np.where(maps > 0, maps, 0.1 * maps)
    return maps


def unit(rows):
    return np.stack([row.ravel() / np.sqrt((row**2).sum()) for row in rows])


def parts(student, teacher, objective, shape=lambda factor: factor):
    """The paraphraser's loss and the factors' distance."""
    factor = layers(objective.encoder, teacher, convolve)
    again = layers(objective.decoder, factor, scatter)
    translated = layers(objective.translator, student, convolve)
    distance = np.abs(unit(shape(translated)) - unit(shape(factor))).mean()
    return ((again - teacher) ** 2).mean(), distance


class TestFactorTransfer(Contract):
    taps: ClassVar = {"stage3": (3, 4, 4)}
    teacher_taps: ClassVar = {"stage3": (6, 4, 4)}

    def make(self):
        return FactorTransfer("stage3", rate=0.5)

    def reference(self, student, teacher, target, objective):
        return sum(parts(student.taps["stage3"], teacher.taps["stage3"], objective))


class TestAttention(Contract):
    taps: ClassVar = {"stage2": (4, 3, 3)}
    at_teacher = None  # the translator stands between the two

    def make(self):
        return FactorTransfer("stage2", rate=0.75, variant="attention")

    def reference(self, student, teacher, target, objective):
        maps = student.taps["stage2"], teacher.taps["stage2"]
        return sum(parts(*maps, objective, shape=lambda factor: (factor**2).mean(1)))


def gradients(stage):
    """The loss of a stage, and the names of what it moves."""
    objective, student, teacher, batch = TestFactorTransfer().case()
    objective.enter(stage)
    student = as_leaves(student, True)
    loss = objective(student, teacher, batch)
    loss.backward()
    moved = {n.split(".")[0] for n, p in objective.named_parameters() if p.grad is not None}
    return loss.item(), moved | ({"student"} if student.taps["stage3"].grad is not None else set())


def test_each_stage_moves_its_own_modules():
    joint, _ = gradients("")
    paraphrase, moved = gradients("paraphraser")
    assert moved == {"encoder", "decoder"}
    assert 0 < paraphrase < joint
    _, moved = gradients("transfer")
    assert moved == {"translator", "student"}


def test_side_by_side_the_factor_does_not_bend_to_the_student():
    encoders = []
    for stage in ("", "paraphraser"):
        objective, student, teacher, batch = TestFactorTransfer().case()
        objective.enter(stage)
        objective(student, teacher, batch).backward()
        encoders.append([p.grad for p in objective.encoder.parameters()])
    torch.testing.assert_close(*encoders)


def test_a_frozen_paraphraser_stays_as_it_is():
    objective, student, teacher, batch = TestFactorTransfer().case()
    objective.enter("transfer")
    before = {k: v.clone() for k, v in objective.state_dict().items()}
    objective.train()
    objective(student, teacher, batch)
    changed = {k for k, v in objective.state_dict().items() if not torch.equal(v, before[k])}
    assert {name.split(".")[0] for name in changed} == {"translator"}
    objective.enter("")
    assert objective.encoder.training
    assert all(p.requires_grad for p in objective.parameters())


def test_a_stage_entered_before_the_adapters_exist_holds():
    objective = TestFactorTransfer().make()
    objective.enter("transfer")
    altered(TestFactorTransfer, make=lambda: objective).case()
    assert not any(p.requires_grad for p in objective.encoder.parameters())
    assert not objective.encoder.training


@pytest.mark.parametrize("size", [(8, 8), (2, 2), (5, 3)])
def test_any_two_sizes_compare(size):
    case = altered(TestFactorTransfer, taps={"stage3": (3, *size)})
    objective, student, teacher, batch = case.case()
    student = as_leaves(student, True)
    objective(student, teacher, batch).backward()
    assert gradient(student.taps["stage3"]).abs().sum() > 0


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="rate must be > 0, got 0"):
        FactorTransfer(rate=0)
    with pytest.raises(ValueError, match=r"variant must be one of .* got 'papr'"):
        FactorTransfer(variant="papr")
    with pytest.raises(ValueError, match=r"stage must be one of .* got 'second'"):
        FactorTransfer().enter("second")
    case = altered(TestFactorTransfer, taps={"stage3": (7,)})
    with pytest.raises(UserError, match=r"'stage3'.*\[6, 7\].*\[6, 6, 4, 4\]"):
        case.case()
