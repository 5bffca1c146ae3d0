"""Agreement, KL and CKA equal independent computations."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from kd.deploy.evaluation.fidelity import fidelity, kl_divergence, linear_cka
from kd.deploy.evaluation.predictions import Predictions
from kd.errors import UserError


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def predictions(classes, targets=(0, 0, 0, 1), **settings):
    """Of a net that predicts these classes."""
    logits = torch.nn.functional.one_hot(torch.tensor(classes), 3).float()
    return Predictions(logits, torch.tensor(targets), **settings)


def test_agreement_is_split_by_the_teachers_correctness():
    found = fidelity(predictions([0, 1, 2, 0]), predictions([0, 0, 2, 0]))
    # The teacher is right on images 0 and 1, and wrong on 2 and 3.
    assert (found.agreement, found.where_right, found.where_wrong) == (0.75, 0.5, 1.0)
    assert found.cka is None


def test_a_side_of_the_split_without_images_has_no_figure():
    right = predictions([0, 0, 0, 1])
    assert fidelity(right, right).figures()["agreement/teacher_wrong"] is None
    assert fidelity(right, predictions([1, 1, 1, 0])).where_right is None
    assert fidelity(right, predictions([1, 1, 1, 0])).agreement == 0


def test_predictions_of_other_images_are_refused():
    with pytest.raises(UserError, match="different images or classes"):
        fidelity(predictions([0, 0, 0, 1]), predictions([0, 0, 0, 1], targets=(1, 0, 0, 0)))
    other = Predictions(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1]))
    with pytest.raises(UserError, match=r"\[4, 3\] and \[4, 2\]"):
        fidelity(predictions([0, 0, 0, 1]), other)


def test_kl_equals_scipy_and_is_directed():
    teacher, student = 3 * normal(50, 4), normal(50, 4, seed=1)
    expected = entropy(teacher.softmax(1), student.softmax(1), axis=1).mean()
    assert kl_divergence(teacher, student) == pytest.approx(expected, rel=1e-12)
    assert kl_divergence(student, teacher) != pytest.approx(expected, rel=0.01)
    assert kl_divergence(teacher, teacher + 5) == pytest.approx(0, abs=1e-12)


def test_kl_is_finite_for_a_confident_student():
    teacher, student = torch.tensor([[0.0, 0.0]]), torch.tensor([[2000.0, 0.0]])
    assert kl_divergence(teacher, student) == pytest.approx(1000 - np.log(2))
    with pytest.raises(UserError, match="not finite"):
        kl_divergence(teacher, torch.tensor([[torch.nan, 0.0]]))


def gram_cka(x, y, hsic):
    """CKA of two embeddings [N, D] as NumPy arrays from their Gram matrices [N, N]."""
    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def biased_hsic(k, m):
    h = np.eye(len(k)) - 1 / len(k)
    return np.trace(k @ h @ m @ h)


def unbiased_hsic(k, m):
    """Equation 5 of Song et al. 2012, up to its leading factor."""
    k, m, n = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), len(k)
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return np.trace(k @ m) + sums - 2 / (n - 2) * (k @ m).sum()


@pytest.mark.parametrize(("debiased", "hsic"), [(False, biased_hsic), (True, unbiased_hsic)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_cka_equals_the_gram_form(debiased, hsic, offset):
    x = normal(40, 5) + offset
    y = x[:, :3] * 2 + normal(40, 3, seed=1)
    expected = gram_cka(x.numpy(), y.numpy(), hsic)
    assert 0.2 < expected < 0.95
    assert linear_cka(x, y, debiased) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_of_a_rotated_scaled_and_shifted_copy_is_one(debiased):
    x = normal(100, 8).float()
    rotation = torch.linalg.qr(normal(8, 8, seed=1))[0].float()
    assert linear_cka(x, 7 * x @ rotation + 3, debiased) == pytest.approx(1, abs=1e-5)


def test_cka_of_independent_embeddings_is_near_its_bias():
    n, d, e = 400, 60, 30
    x, y = normal(n, d), normal(n, e, seed=1)
    bias = (d * e / ((n + d) * (n + e))) ** 0.5
    assert bias > 0.09
    assert linear_cka(x, y) == pytest.approx(bias, abs=0.01)
    assert linear_cka(x, y, debiased=True) == pytest.approx(0, abs=0.01)


def test_many_images_are_summed_in_parts():
    x, y = normal(5000, 3), normal(5000, 2, seed=1)
    y[:, 0] += x[:, 0]
    centered = x - x.mean(0), y - y.mean(0)
    xx, yy, xy = ((a.T @ b).norm() for a, b in ((c, d) for c, d in _pairs(*centered)))
    assert linear_cka(x, y) == pytest.approx((xy**2 / (xx * yy)).item())


def _pairs(x, y):
    return (x, x), (y, y), (x, y)


def test_embeddings_without_a_cka():
    x, constant = normal(10, 4), torch.full((10, 4), 0.1)
    assert linear_cka(x, constant) is None
    assert linear_cka(x[:3], x[:3], debiased=True) is None
    assert linear_cka(x[:3], x[:3]) == pytest.approx(1)
    with pytest.raises(UserError, match="not finite"):
        linear_cka(x, x * torch.nan)
    with pytest.raises(UserError, match="10 and 9 images"):
        linear_cka(x, x[1:])


def test_embeddings_of_predictions_are_compared():
    classes, x = [0, 1, 2, 0], normal(4, 3).float()
    found = fidelity(predictions(classes, embeddings=x), predictions(classes, embeddings=-x))
    assert found.cka == pytest.approx(1, abs=1e-6)
    assert found.cka_debiased == pytest.approx(1, abs=1e-6)
    assert found.kl == 0
