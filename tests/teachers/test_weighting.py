"""Weights and combinations of several teachers' logits against NumPy."""

import numpy as np
import pytest
import torch

from kd.objectives.kd import kd
from kd.teachers.weighting import (
    confidence_weights,
    entropy_weights,
    mean_of_logits,
    mean_of_probabilities,
)

# Two teachers, two images, three classes.
LOGITS = np.array([[[2.0, 0.5, -1.0], [0.0, 0.0, 0.0]], [[-0.5, 1.5, 0.0], [4.0, -2.0, 1.0]]])
TARGET = np.array([0, 2])


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


@pytest.fixture
def logits():
    return torch.tensor(LOGITS)


def test_three_combinations_by_hand(logits):
    """Probabilities, logits and losses: three values under the same weights."""
    temperature, weights = 2.0, np.array([0.25, 0.75])
    spread = torch.tensor(weights).unsqueeze(1).expand(2, 2)
    mixture = np.einsum("m,mbk->bk", weights, softmax(LOGITS / temperature))
    mixed = mean_of_probabilities(logits, spread, temperature)
    np.testing.assert_allclose(softmax(mixed.numpy() / temperature), mixture, rtol=1e-12)
    np.testing.assert_allclose(
        mean_of_logits(logits, spread), 0.25 * LOGITS[0] + 0.75 * LOGITS[1], rtol=1e-12
    )
    student = torch.tensor([[0.3, -0.2, 0.9], [1.0, 2.0, 0.0]], dtype=torch.float64)
    q = softmax(student.numpy() / temperature)
    values = {
        "probabilities": 4 * kl(mixture, q).mean(),
        "logits": 4 * kl(softmax(np.einsum("m,mbk->bk", weights, LOGITS) / 2.0), q).mean(),
        "losses": 4 * (weights * kl(softmax(LOGITS / temperature), q).mean(1)).sum(),
    }
    found = {
        "probabilities": kd(student, mixed, temperature),
        "logits": kd(student, mean_of_logits(logits, spread), temperature),
        "losses": sum(
            w * kd(student, z, temperature) for w, z in zip(weights, logits, strict=True)
        ),
    }
    for name, value in values.items():
        assert found[name].item() == pytest.approx(value, rel=1e-10), name
    assert values["losses"] > values["probabilities"] + 0.1
    assert abs(values["logits"] - values["probabilities"]) > 0.01


def test_means_of_probabilities_and_of_losses_have_the_same_gradient():
    generator = torch.Generator().manual_seed(0)
    teachers_logits = torch.randn(3, 5, 7, dtype=torch.float64, generator=generator) * 3
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    student = torch.randn(5, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    mixed = mean_of_probabilities(teachers_logits, weights.unsqueeze(1).expand(3, 5), 4.0)
    mixture = kd(student, mixed, 4.0)
    losses = sum(w * kd(student, z, 4.0) for w, z in zip(weights, teachers_logits, strict=True))
    ours, theirs = (torch.autograd.grad(loss, student)[0] for loss in (mixture, losses))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    assert losses > mixture


def test_class_of_probability_zero_keeps_a_finite_logit():
    extreme = torch.tensor([[[200.0, 0.0, -200.0]], [[150.0, -300.0, 0.0]]])
    mixed = mean_of_probabilities(extreme, torch.full((2, 1), 0.5), 1.0)
    assert mixed.isfinite().all()
    alone = mean_of_probabilities(extreme, torch.tensor([[1.0], [0.0]]), 1.0)
    torch.testing.assert_close(alone, extreme[0].log_softmax(1))


def test_confidence_by_hand(logits):
    """Zhang et al. 2022, eq. 2: (1 − exp(c_m) / Σ_j exp(c_j)) / (M − 1) of cross-entropies c."""
    cost = -np.log(softmax(LOGITS)[:, [0, 1], TARGET])
    expected = 1 - np.exp(cost) / np.exp(cost).sum(0)
    found = confidence_weights(logits, torch.tensor(TARGET))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-12)
    assert found[0, 0] > 0.8  # class 0: predicted by the first teacher, not by the second


def test_entropy_by_hand(logits):
    p = softmax(LOGITS)
    entropy = -(p * np.log(p)).sum(-1)
    found = entropy_weights(logits)
    np.testing.assert_allclose(found, 1 - softmax(entropy, 0), rtol=1e-12)
    assert found[1, 1] > 0.7  # the first teacher is uniform on the second image


def test_weights_per_sample_sum_to_one_for_any_number_of_teachers():
    for teachers in (2, 3, 5):
        logits = 10 * torch.randn(teachers, 8, 4)
        target = torch.randint(0, 4, (8,))
        for weights in (entropy_weights(logits), confidence_weights(logits, target)):
            assert weights.shape == (teachers, 8)
            assert (weights >= 0).all()
            torch.testing.assert_close(weights.sum(0), torch.ones(8))
