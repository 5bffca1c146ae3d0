"""Relational KD (Park et al. 2019): distances and angles against loops over images."""

import subprocess
import sys
from itertools import permutations
from typing import ClassVar

import numpy as np
import pytest
import torch
from contract import Contract
from support import gradient

from kd.objectives.rkd import Relational
from kd.types import Outputs


def huber(x):
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


def pairs(features):
    rows = [f.ravel() for f in features]
    apart = {
        (i, j): np.linalg.norm(rows[i] - rows[j]) for i, j in permutations(range(len(rows)), 2)
    }
    mean = sum(apart.values()) / len(apart)
    return {pair: d / mean for pair, d in apart.items()}


def triples(features):
    rows = [f.ravel() for f in features]

    def unit(i, j):
        return (rows[i] - rows[j]) / np.linalg.norm(rows[i] - rows[j])

    return {
        (i, j, k): np.dot(unit(i, j), unit(k, j)) for i, j, k in permutations(range(len(rows)), 3)
    }


def mean_huber(ours, theirs):
    return sum(huber(ours[key] - theirs[key]) for key in theirs) / len(theirs)


class TestRelational(Contract):
    taps: ClassVar = {"embedding": (7,)}
    refuses_one_image = "at least 3 of them, got 1"

    def make(self):
        return Relational()

    def reference(self, student, teacher, target, objective):
        ours, theirs = student.taps[objective.tap], teacher.taps[objective.tap]
        return objective.distance * mean_huber(pairs(ours), pairs(theirs)) + (
            objective.angle * mean_huber(triples(ours), triples(theirs))
        )


class TestDistancesOnly(TestRelational):
    refuses_one_image = "at least 2 of them, got 1"

    def make(self):
        return Relational(angle=0.0)


class TestAnglesOnly(TestRelational):
    def make(self):
        return Relational(distance=0.0)


class TestAnglesInGroups(TestRelational):
    batch = 19

    @pytest.fixture(autouse=True)
    def small_groups(self, monkeypatch):
        monkeypatch.setattr("kd.objectives.rkd.ANGLES", 3 * 19**2)

    teacher_taps: ClassVar = {"embedding": (5,)}


class TestMapAgainstVector(TestRelational):
    taps: ClassVar = {"stage3": (4, 2, 2)}
    teacher_taps: ClassVar = {"stage3": (6,)}

    def make(self):
        return Relational("stage3")


def term(ours, theirs, **weights):
    all_outputs = [
        Outputs(torch.zeros(len(rows), 2), {"embedding": rows}) for rows in (ours, theirs)
    ]
    return Relational(**weights)(*all_outputs, None)


@pytest.mark.parametrize("weights", [{"angle": 0.0}, {"distance": 0.0}])
def test_rotation_scale_and_shift_do_not_matter(weights):
    torch.manual_seed(0)
    ours, theirs = torch.randn(8, 6), torch.randn(8, 10)
    moved = [
        100 * rows @ torch.linalg.qr(torch.randn(rows.shape[1], rows.shape[1]))[0] + 30
        for rows in (ours, theirs)
    ]
    before = term(ours, theirs, **weights)
    torch.testing.assert_close(term(moved[0], theirs, **weights), before, rtol=1e-4, atol=0)
    torch.testing.assert_close(term(ours, moved[1], **weights), before, rtol=1e-4, atol=0)
    sheared = ours @ torch.randn(6, 6)
    assert (term(sheared, theirs, **weights) - before).abs() > 1e-2 * before


def test_gradient_agrees_with_finite_differences():
    torch.manual_seed(0)
    ours, theirs = torch.randn(6, 4, requires_grad=True), torch.randn(6, 5)
    term(ours, theirs).backward()
    direction = torch.randn(6, 4)
    moved = [ours.detach() + step * direction for step in (1e-2, -1e-2)]
    slope = (term(moved[0], theirs) - term(moved[1], theirs)) / 2e-2
    torch.testing.assert_close((gradient(ours) * direction).sum(), slope, rtol=1e-2, atol=1e-3)


def test_equal_images_give_finite_values_and_gradients():
    torch.manual_seed(0)
    ours = 50 * torch.randn(6, 4)
    ours[3] = ours[1]
    ours.requires_grad_()
    loss = term(ours, torch.randn(6, 4))
    loss.backward()
    assert loss < 1000
    assert gradient(ours).isfinite().all()


MEASURE = """
import resource, sys, torch
from kd.objectives.rkd import Relational
from kd.types import Outputs
def step(size):
    rows = torch.randn(size, 512, requires_grad=True)
    both = [Outputs(torch.zeros(size, 2), {"embedding": r}) for r in (rows, torch.randn(size, 512))]
    Relational()(*both, None).backward()
step(32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(256)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * (1 if sys.platform == "darwin" else 1024) / 2**20)
"""


@pytest.mark.slow
def test_memory_at_256_images():
    """A tensor [B, B, B] of float32 has 64 MiB; the graph of all angles at once has several."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 250


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"distance": -1.0}, r"distance must be ≥ 0, got -1\.0"),
        ({"angle": -2.0}, r"angle must be ≥ 0, got -2\.0"),
        ({"distance": 0.0, "angle": 0.0}, r"distance or angle must be > 0, got 0\.0 and 0\.0"),
    ],
)
def test_invalid_settings_raise(weights, message):
    with pytest.raises(ValueError, match=message):
        Relational(**weights)
