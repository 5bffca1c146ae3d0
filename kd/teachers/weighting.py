"""How much each of M teachers counts for an image, and what they answer together.

    probabilities   z = T·log Σ_m w_m softmax(z_m / T), so that softmax(z / T) is the mixture
    logits          z = Σ_m w_m z_m
    losses          Σ_m w_m L(z_m): no common answer, every teacher has a loss of its own

These are three objects. The first and the last differ only by a constant where L is T²·KL.

Weights [M, B] by sample: who has the lower cost c_m counts more,

    w_m = (1 − softmax(c)_m) / (M − 1),  with the softmax over the teachers; Σ_m w_m = 1.

    entropy      c_m = −Σ_k p_m,k log p_m,k
                 Kwon et al., "Adaptive Knowledge Distillation Based on Entropy", 2020
    confidence   c_m = −log p_m,y, the cross-entropy with the label
                 Zhang, Chen & Wang, "Confidence-Aware Multi-Teacher Knowledge Distillation", 2022

Both costs are of the probabilities at temperature 1. Public code divides 1 − softmax by M for the
one and by M(M − 1) for the other, so that their soft terms weigh (M − 1)/M and 1/M of that of the
plain mean; here the weights of every kind make 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

COMBINATIONS = ("probabilities", "logits", "losses")
WEIGHTINGS = ("uniform", "fixed", "entropy", "confidence")
BY_SAMPLE = ("entropy", "confidence")


def entropy_weights(logits: Tensor) -> Tensor:
    """Weights [M, B] of teachers with logits [M, B, K]: those who are surer count more."""
    log_p = F.log_softmax(logits, dim=2)
    return _the_lower_the_more(-(log_p.exp() * log_p).sum(2))


def confidence_weights(logits: Tensor, target: Tensor) -> Tensor:
    """Weights [M, B] of teachers with logits [M, B, K]: those nearer to labels [B] count more."""
    log_p = F.log_softmax(logits, dim=2)
    rows = target.expand(len(logits), -1).unsqueeze(2)
    return _the_lower_the_more(-log_p.gather(2, rows).squeeze(2))


def _the_lower_the_more(cost: Tensor) -> Tensor:
    """Weights [M, B] of costs [M, B], M ≥ 2."""
    return (1 - cost.softmax(0)) / (len(cost) - 1)


def mean_of_probabilities(logits: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Logits [B, K] whose probabilities at T are the mixture of logits [M, B, K] at T.

    In log space: a class that no teacher deems likely keeps a finite logit.
    """
    log_p = F.log_softmax(logits / temperature, dim=2)
    return temperature * torch.logsumexp(weights.log().unsqueeze(2) + log_p, dim=0)


def mean_of_logits(logits: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum [B, K] of logits [M, B, K]."""
    return (weights.unsqueeze(2) * logits).sum(0)
