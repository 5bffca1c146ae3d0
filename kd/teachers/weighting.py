"""Weights of several teachers and combinations of their logits.

    probabilities   z = T·log Σ_m w_m softmax(z_m / T), so that softmax(z / T) is the mixture
    logits          z = Σ_m w_m z_m
    losses          Σ_m w_m L(z_m): no combined logits, one loss for each teacher

These are three different objectives. Under T²·KL, `probabilities` and `losses` differ by a constant
only, so they have the same gradient.

Weights per sample [M, B]: a teacher with a lower cost c_m has a higher weight,

    w_m = (1 − softmax(c)_m) / (M − 1),  with the softmax over the teachers; Σ_m w_m = 1.

    entropy      c_m = −Σ_k p_m,k log p_m,k
                 Kwon, Na, Lee & Kim, "Adaptive Knowledge Distillation Based on Entropy", ICASSP
                 2020, https://doi.org/10.1109/ICASSP40776.2020.9054698
    confidence   c_m = −log p_m,y, the cross-entropy with the label
                 Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", ICASSP
                 2022, https://arxiv.org/abs/2201.00007

Both costs use probabilities at temperature 1. Difference from the published code: it divides
1 − softmax by M for `entropy` and by M(M − 1) for `confidence`, which scales the soft term by
(M − 1)/M and 1/M relative to the plain mean. Here all weights sum to 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

COMBINATIONS = ("probabilities", "logits", "losses")
WEIGHTINGS = ("uniform", "fixed", "entropy", "confidence")
BY_SAMPLE = ("entropy", "confidence")  # weightings that differ between samples


def entropy_weights(logits: Tensor) -> Tensor:
    """Return weights [M, B] of teachers with logits [M, B, K]; low entropy, high weight.

    Example:
        >>> entropy_weights(torch.tensor([[[9.0, 0.0]], [[0.0, 0.0]]])).squeeze(1)
        tensor([0.6664, 0.3336])
    """
    log_p = F.log_softmax(logits, dim=2)
    return _weights_of_costs(-(log_p.exp() * log_p).sum(2))


def confidence_weights(logits: Tensor, target: Tensor) -> Tensor:
    """Return weights [M, B] of teachers with logits [M, B, K]; low cross-entropy, high weight.

    Args:
        logits: of M teachers.
        target: class indices [B].
    """
    log_p = F.log_softmax(logits, dim=2)
    targets = target.expand(len(logits), -1)
    return _weights_of_costs(F.nll_loss(log_p.transpose(1, 2), targets, reduction="none"))


def _weights_of_costs(cost: Tensor) -> Tensor:
    """Return weights [M, B] of costs [M, B], M ≥ 2."""
    return (1 - cost.softmax(0)) / (len(cost) - 1)


def mean_of_probabilities(logits: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Return logits [B, K] whose probabilities at T are the mixture of those of logits [M, B, K].

    Computed in log space, so a class that every teacher gives a probability of 0 in float32 has a
    finite logit.

    Args:
        logits: of M teachers.
        weights: [M, B], each ≥ 0, with sum 1 over the teachers.
        temperature: T.
    """
    log_p = F.log_softmax(logits / temperature, dim=2)
    # log 0 = −inf: a teacher of weight 0 drops out of the sum.
    return temperature * torch.logsumexp(weights.log().unsqueeze(2) + log_p, dim=0)


def mean_of_logits(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum [B, K] of logits [M, B, K] with weights [M, B]."""
    return (weights.unsqueeze(2) * logits).sum(0)
