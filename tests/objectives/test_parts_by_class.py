"""Parts of soft terms by label and other classes, against NumPy in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_batch, make_outputs
from support import softmax

from kd.objectives.base import Objective
from kd.objectives.crld import CrossView
from kd.objectives.ctkd import CurriculumTemperature
from kd.objectives.dkd import Decoupled
from kd.objectives.kd import SoftTargets
from kd.objectives.mlkd import MultiLevel
from kd.objectives.mlkd_views import TwoViewMultiLevel
from kd.objectives.nkd import Normalized
from kd.objectives.soft_ce import SoftTargetCrossEntropy
from kd.objectives.spherical import Spherical
from kd.objectives.ttm import TransformedTeacher
from kd.objectives.wsld import WeightedSoftLabels

TARGET = np.array([0, 2, 4, 2, 0, 2, 4, 2])  # of two views of four images


@pytest.fixture
def logits():
    generator = np.random.default_rng(0)
    return 2 * generator.normal(size=(8, 5)), 2 * generator.normal(size=(8, 5))


def binary(ours, theirs, y):
    """KL of the label against all other classes, of two rows of probabilities."""
    s, t = ours[y], theirs[y]
    return t * np.log(t / s) + (1 - t) * np.log((1 - t) / (1 - s))


def among(ours, theirs, y, kept):
    """KL among the classes other than the label that have the teacher's largest logits."""
    rest = sorted((k for k in range(5) if k != y), key=lambda k: -theirs[k])[:kept]
    p, q = ours[rest] / ours[rest].sum(), theirs[rest] / theirs[rest].sum()
    return sum(b * np.log(b / a) for a, b in zip(p, q, strict=True))


def parts(student, teacher, t_s, t_t=None, scale=None, weights=None, kept=4):
    """Means over rows of both parts of T²·KL, with a weight for each row."""
    t_t, scale = t_t or t_s, t_s**2 if scale is None else scale
    label = others = 0.0
    for i, y in enumerate(TARGET):
        ours, theirs = softmax(student[i] / t_s), softmax(teacher[i] / t_t)
        weight = scale * (1.0 if weights is None else weights[i])
        label += weight * binary(ours, theirs, y)
        others += weight * (1 - theirs[y]) * among(ours, theirs, y, kept)
    return label / 8, others / 8


def entropy(teacher, t):
    rows = [softmax(z / t) for z in teacher]
    return t**2 * np.mean([-(p * np.log(p)).sum() for p in rows])


def sphere(z):
    centred = z - z.mean(1, keepdims=True)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def radius(t):
    return np.linalg.norm(t - t.mean(1, keepdims=True), axis=1).mean()


def gaps(s, t):
    """Weights of weighted soft labels."""
    losses = [[-np.log(softmax(z)[y]) for z, y in zip(x, TARGET, strict=True)] for x in (s, t)]
    return 1 - np.exp(-np.array(losses[0]) / np.array(losses[1]))


def powers(t):
    return [(softmax(z) ** 0.5).sum() for z in t]


HOT = 1 + 20 / (1 + np.exp(-1.0))  # the initial temperature of ctkd
CASES: dict[str, tuple[Objective, Callable[..., Any]]] = {
    "kd": (SoftTargets(3.0), lambda s, t, kept: parts(s, t, 3.0, kept=kept)),
    "ctkd": (CurriculumTemperature(), lambda s, t, kept: parts(s, t, HOT, kept=kept)),
    "ttm": (TransformedTeacher(2.0), lambda s, t, kept: parts(s, t, 1.0, 2.0, kept=kept)),
    "wttm": (
        TransformedTeacher(2.0, weighted=True),
        lambda s, t, kept: parts(s, t, 1.0, 2.0, weights=powers(t), kept=kept),
    ),
    "wsld": (
        WeightedSoftLabels(3.0),
        lambda s, t, kept: parts(s, t, 3.0, weights=gaps(s, t), kept=kept),
    ),
    "spherical": (
        Spherical(3.0),
        lambda s, t, kept: parts(radius(t) * sphere(s), radius(t) * sphere(t), 3.0, kept=kept),
    ),
    "soft_ce": (
        SoftTargetCrossEntropy(3.0),
        lambda s, t, kept: np.add(parts(s, t, 3.0, kept=kept), (entropy(t, 3.0), 0)),
    ),
    # Without pairs of samples and classes, the sum over temperatures
    "mlkd": (
        MultiLevel([2.0, 5.0], 0.0, 0.0),
        lambda s, t, kept: np.add(parts(s, t, 2.0, kept=kept), parts(s, t, 5.0, kept=kept)),
    ),
    "mlkd_views": (
        TwoViewMultiLevel([3.0], 0.0, 0.0),
        lambda s, t, kept: parts(s, t, 3.0, kept=kept),
    ),
    # Within views without thresholds: the sum over both
    "crld": (
        CrossView(3.0, 1.0, 0.0, 0.0, 0.0),
        lambda s, t, kept: np.multiply(2, parts(s, t, 3.0, kept=kept)),
    ),
}


@pytest.mark.parametrize(("share", "kept"), [(1.0, 4), (0.5, 2), (0.01, 2)])
@pytest.mark.parametrize("name", CASES)
def test_parts_are_those_of_the_divergence(name, share, kept, logits):
    objective, reference = CASES[name]
    student, teacher = (make_outputs(torch.tensor(z, dtype=torch.float32)) for z in logits)
    batch = make_batch(torch.tensor(TARGET))
    found = objective.class_terms(student, teacher, batch, share)
    expected = reference(*logits, kept)
    assert [part.item() for part in found] == pytest.approx(list(expected), rel=1e-4)


@pytest.mark.parametrize(
    "objective", [Decoupled(3.0, 2.0, 5.0), Normalized(3.0, 1.5)], ids=["dkd", "nkd"]
)
def test_methods_with_weights_of_their_own(objective, logits):
    student, teacher = (make_outputs(torch.tensor(z, dtype=torch.float32)) for z in logits)
    found = objective.class_terms(student, teacher, make_batch(torch.tensor(TARGET)), share=0.5)
    label = others = 0.0
    for s, t, y in zip(*logits, TARGET, strict=True):
        ours, theirs = softmax(s / 3), softmax(t / 3)
        if isinstance(objective, Decoupled):
            label += 2 * 9 * binary(ours, theirs, y) / 8
            others += 5 * 9 * among(ours, theirs, y, 2) / 8
        else:
            label -= softmax(t)[y] * np.log(softmax(s)[y]) / 8
            rest = sorted((k for k in range(5) if k != y), key=lambda k: -t[k])[:2]
            pairs = zip(softmax(t[rest] / 3), softmax(s[rest] / 3), strict=True)
            others -= 1.5 * 9 * sum(q * np.log(p) for q, p in pairs) / 8
    assert [part.item() for part in found] == pytest.approx([label, others], rel=1e-4)


def test_temperature_of_ctkd_is_trained_against_both_parts(logits):
    objective = CurriculumTemperature()
    objective.progress = 1.0
    student, teacher = (make_outputs(torch.tensor(z, dtype=torch.float32)) for z in logits)
    batch = make_batch(torch.tensor(TARGET))
    whole = torch.stack(objective.class_terms(student, teacher, batch, share=1.0)).sum()
    slopes = [
        torch.autograd.grad(value, objective.theta)[0]
        for value in (whole, objective(student, teacher, batch))
    ]
    torch.testing.assert_close(*slopes)
