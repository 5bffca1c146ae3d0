"""Calibration figures equal those of scikit-learn, torchmetrics and hand-computed ones."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import brier_score_loss, log_loss
from support import present
from torchmetrics.classification import MulticlassCalibrationError

from kd.deploy.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    adaptive_ece,
    brier,
    calibration,
    ece,
    fit_temperature,
    nll,
    reliability,
)
from kd.errors import UserError


def drawn(images=3000, classes=5, temperature=1.0, seed=0):
    """Logits, and labels drawn from their probabilities at a temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, classes, generator=generator)
    probabilities = (logits / temperature).softmax(1)
    return logits, torch.multinomial(probabilities, 1, generator=generator).flatten()


def binary(confidences, right):
    """Logits of two classes with these confidences, and labels that make them right or wrong."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], 1), 1 - torch.tensor(right).long()


@pytest.mark.parametrize("classes", [2, 5])
def test_likelihood_and_brier_score_equal_scikit_learn(classes):
    logits, targets = drawn(classes=classes, temperature=2.0)
    p = logits.double().softmax(1).numpy()
    found = calibration(logits, targets)
    assert found.nll == pytest.approx(log_loss(targets, p, labels=range(classes)), rel=1e-9)
    by_class = [brier_score_loss(targets == k, p[:, k]) for k in range(classes)]
    assert found.brier == pytest.approx(sum(by_class), rel=1e-9)
    if classes == 2:
        assert found.brier == pytest.approx(2 * by_class[1], rel=1e-9)


@pytest.mark.parametrize("classes", [2, 5])
def test_ece_equals_torchmetrics_and_the_bins_of_the_diagram(classes):
    logits, targets = drawn(classes=classes, temperature=2.0)
    metric = MulticlassCalibrationError(classes, n_bins=15)
    expected = metric(logits.softmax(1), targets).item()
    assert expected > 0.05
    assert ece(logits, targets) == pytest.approx(expected, abs=1e-7)
    bins = reliability(logits, targets)
    gaps = [b.images * abs(present(b.confidence) - present(b.accuracy)) for b in bins if b.images]
    assert sum(gaps) / 3000 == pytest.approx(expected, abs=1e-6)
    assert sum(b.images for b in bins) == 3000


def test_reliability_bins_of_a_hand_made_case():
    bins = reliability(*binary([0.55, 0.58, 0.95, 0.97, 1.0], [True, False, True, True, False]))
    assert len(bins) == 15
    assert bins[8].low == pytest.approx(8 / 15)
    assert (bins[8].images, bins[8].accuracy) == (2, 0.5)
    assert bins[8].confidence == pytest.approx(0.565)
    assert (bins[14].images, bins[14].high) == (3, 1.0)
    assert bins[14].accuracy == pytest.approx(2 / 3)
    assert bins[0].images == 0
    assert bins[0].accuracy is None
    assert bins[0].confidence is None


def test_adaptive_ece_of_a_hand_made_case():
    # 30 images make 15 bins of two, by confidence: gaps of |1/2 - mean of the two confidences|
    confidences = [0.60 + 0.01 * k for k in range(30)]
    logits, targets = binary(confidences, [True, False] * 15)
    expected = np.mean([abs(0.5 - (0.605 + 0.02 * k)) for k in range(15)])
    assert adaptive_ece(logits, targets) == pytest.approx(expected, abs=1e-6)
    # Errors of both signs in one bin of equal width cancel out there, and not here.
    logits, targets = binary([0.94] * 20 + [0.99] * 10, [True] * 20 + [False] * 10)
    assert adaptive_ece(logits, targets) == pytest.approx((20 * 0.06 + 10 * 0.99) / 30, abs=1e-6)
    assert ece(logits, targets) == pytest.approx((10 * 0.99 - 20 * 0.06) / 30, abs=1e-6)


def test_adaptive_ece_does_not_depend_on_the_order_of_images():
    # Most confidences are equal, so that bins divide images of the same confidence.
    logits, targets = binary([0.8] * 40 + [0.9] * 20, [True] * 30 + [False] * 10 + [True] * 20)
    expected = (40 * abs(0.75 - 0.8) + 20 * abs(1 - 0.9)) / 60
    for seed in range(3):
        order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
        assert adaptive_ece(logits[order], targets[order]) == pytest.approx(expected, abs=1e-6)


def test_few_images_have_a_bin_each():
    logits, targets = binary([0.6, 0.9], [True, False])
    assert adaptive_ece(logits, targets) == pytest.approx((0.4 + 0.9) / 2, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature):
    logits, targets = drawn(20_000, temperature=temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_is_the_optimum_of_the_likelihood():
    logits, targets = drawn(temperature=2.0)
    found = torch.tensor(fit_temperature(logits, targets), dtype=torch.float64, requires_grad=True)
    loss = F.cross_entropy(logits.double() / found, targets)
    (slope,) = torch.autograd.grad(loss, found)
    assert abs(slope) < 1e-7
    scaled = fit_temperature(10 * logits, targets)
    assert scaled == pytest.approx(10 * found.item(), rel=1e-6)


def test_the_temperature_calibrates_other_images():
    validation, (logits, targets) = drawn(temperature=2.5), drawn(temperature=2.5, seed=1)
    found = calibration(logits, targets, validation)
    assert found.temperature == pytest.approx(2.5, rel=0.1)
    assert found.nll_tempered == pytest.approx(
        log_loss(targets, (logits.double() / found.temperature).softmax(1)), rel=1e-9
    )
    assert present(found.nll_tempered) < found.nll
    assert present(found.ece_tempered) < found.ece / 3


def test_the_temperature_changes_no_other_figure():
    logits, targets = drawn()
    alone = calibration(logits, targets).figures()
    with_it = calibration(logits, targets, drawn(temperature=4.0)).figures()
    reported = {"temperature", "ece/tempered", "nll/tempered"}
    assert {key for key in alone if alone[key] != with_it[key]} == reported
    assert all(alone[key] is None for key in reported)


def test_a_perfect_predictor():
    targets = torch.arange(60) % 4
    logits = 50 * F.one_hot(targets, 4).float()
    found = calibration(logits, targets, (logits, targets))
    assert (found.ece, found.ece_adaptive) == pytest.approx((0, 0), abs=1e-6)
    assert (found.nll, found.brier) == pytest.approx((0, 0), abs=1e-12)
    # The likelihood is 1 already, and a net that is less sure is best at the lowest temperature.
    assert found.temperature == 1
    assert fit_temperature(logits / 10, targets) == MIN_TEMPERATURE


def test_a_chance_predictor():
    logits, targets = torch.zeros(80, 4), torch.arange(80) % 4
    found = calibration(logits, targets, (logits, targets))
    assert found.nll == pytest.approx(math.log(4))
    assert found.brier == pytest.approx(0.75)
    assert (found.ece, found.ece_adaptive) == pytest.approx((0, 0), abs=1e-6)
    assert found.temperature == 1
    # Confident and wrong more often than right: only a flat distribution is better.
    wrong = 3 * F.one_hot((targets + 1) % 4, 4).float()
    assert fit_temperature(wrong, targets) == MAX_TEMPERATURE


def test_labels_of_which_some_have_no_images():
    logits, targets = drawn()
    found = calibration(logits, targets.clamp(max=2))
    assert all(math.isfinite(value) for value in (found.ece, found.nll, found.brier))


def test_the_likelihood_of_overconfident_logits_is_not_clipped():
    logits, targets = torch.tensor([[1000.0, 0.0]]), torch.tensor([1])
    assert nll(logits, targets) == pytest.approx(1000)
    assert brier(logits, targets) == pytest.approx(2)


def test_logits_that_are_not_finite_are_refused():
    logits, targets = drawn(10)
    broken = logits.clone()
    broken[3, 1] = torch.nan
    for arguments in ((broken, targets), (logits, targets, (broken, targets))):
        with pytest.raises(UserError, match="1 of 10 images are not finite"):
            calibration(*arguments)
