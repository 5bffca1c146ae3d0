"""Optimal transport of probabilities between classes, by Sinkhorn's iterations in log space."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.pairs import full_precision
from kd.objectives.precision import upcast

LOWEST = 0.02  # of the regularisation η: exp(−1/η) is a normal number in float32


def class_cost(weight: Tensor, sharpness: float = 1.0) -> Tensor:
    """Costs C [K, K] between classes, from the weight [K, D] of a classifier.

    Args:
        weight: one row a class.
        sharpness: κ > 0.

    Returns:
        1 − exp(−κ·(1 − cos)), in [0, 1): 0 for rows of one direction.

    Example:
        >>> import torch
        >>> class_cost(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])).round(decimals=3)
        tensor([[0.0000, 0.0000, 0.6320],
                [0.0000, 0.0000, 0.6320],
                [0.6320, 0.6320, 0.0000]])
    """
    rows = F.normalize(upcast(weight), dim=1)
    distance = (1 - rows @ rows.T).clamp_min(0).fill_diagonal_(0)
    return -torch.expm1(-sharpness * distance)


def transport_cost(
    log_source: Tensor, log_goal: Tensor, cost: Tensor, regularisation: float, iterations: int
) -> Tensor:
    """Cost of the regularised plan between log-probabilities [B, K] with cost [K, K], [B].

    Probabilities may be 0, at −∞.
    """
    with full_precision(cost):
        kernel = (-cost / regularisation).exp()
        # log u and log v of the plan u · kernel · v; without a class, u and v are 0 as well.
        log_u = torch.where(log_source > -math.inf, 0.0, log_source.detach())
        log_v = log_u
        for _ in range(iterations):
            log_v = log_goal - _log_product(log_u, kernel)
            log_u = log_source - _log_product(log_v, kernel.T)
        # The plan's rows sum to the source, so that a row's share at each column needs no u.
        v = (log_v - log_v.amax(1, keepdim=True)).exp()
        row_cost = (v @ (kernel * cost).T) / (v @ kernel.T)
    return (log_source.exp() * row_cost).sum(1)


def _log_product(log_rows: Tensor, kernel: Tensor) -> Tensor:
    """log(exp(log_rows) @ kernel) of [B, K] and [K, K], for any size of log_rows."""
    largest = log_rows.amax(1, keepdim=True).detach()
    return ((log_rows - largest).exp() @ kernel).log() + largest
