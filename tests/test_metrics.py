"""Figures of a split against values counted by hand."""

import math

import pytest
import torch

from kd.metrics import Evaluation


def test_figures_of_two_batches_by_hand():
    """Five samples in two batches of unequal size."""
    probabilities = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.2, 0.8]])
    target = torch.tensor([0, 1, 1, 0, 0])
    teacher = torch.tensor([[1.0, 0], [1, 0], [1, 0], [1, 0], [0, 1]])
    evaluation = Evaluation(num_classes=2, closely=True)
    for rows in (slice(0, 3), slice(3, 5)):
        evaluation.update(probabilities[rows].log(), target[rows], teacher[rows])
    figures = {k: v.item() for k, v in evaluation.compute().items()}
    assert figures["acc"] == pytest.approx(3 / 5)
    assert figures["agreement"] == pytest.approx(4 / 5)
    nll = -sum(map(math.log, [0.8, 0.4, 0.7, 0.9, 0.2])) / 5
    assert figures["nll"] == pytest.approx(nll, rel=1e-5)
    # Bins of width 1/15: {.8, .8} right once, {.6} wrong, {.7} right, {.9} right.
    ece = (2 * abs(0.5 - 0.8) + 0.6 + 0.3 + 0.1) / 5
    assert figures["ece"] == pytest.approx(ece, rel=1e-5)


def test_compute_resets_the_figures():
    evaluation = Evaluation(num_classes=2)
    evaluation.update(torch.eye(2), torch.tensor([0, 1]))
    assert evaluation.compute()["acc"] == 1
    evaluation.update(torch.eye(2), torch.tensor([1, 0]))
    assert evaluation.compute()["acc"] == 0
    assert "agreement" not in evaluation.compute()
