"""Ensembles of logits by hand."""

import pytest
import torch

from kd.distillers.ensemble_logits import mean_logits, min_logit, min_loss
from kd.errors import UserError


def test_ensembles_by_hand():
    logits = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], [[1.0, 2.0, -4.0], [0.0, 5.0, 4.5]]])
    target = torch.tensor([0, 1])
    mean = torch.tensor([[2.0, 1.5, -2.0], [0.0, 3.5, 2.75]])
    torch.testing.assert_close(mean_logits(logits, target), mean)
    # relative to the label: [0, -2, -3] and [0, 1, -5]; [-2, 0, -1] and [-5, 0, -0.5]
    least = torch.tensor([[0.0, -2.0, -5.0], [-5.0, 0.0, -1.0]])
    torch.testing.assert_close(min_logit(logits, target), least)
    # losses 0.17 and 1.32 for the first; 0.41 and 0.48 for the second sample
    torch.testing.assert_close(min_loss(logits, target), logits[0])
    torch.testing.assert_close(min_loss(logits, torch.tensor([1, 1])), logits[[1, 0], [0, 1]])


def test_mixed_labels_fit_min_loss_but_not_min_logit():
    logits = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], [[1.0, 2.0, -4.0], [0.0, 5.0, 4.5]]])
    mixed = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])  # losses 0.91 and 0.73
    torch.testing.assert_close(min_loss(logits, mixed), logits[[0, 1], [0, 1]])
    with pytest.raises(UserError, match="min_logit reads labels, and data/augment mixes them"):
        min_logit(logits, mixed)
