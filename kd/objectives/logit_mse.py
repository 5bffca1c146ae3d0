"""Logit regression: mean squared difference of the logits.

    L = (1/(B·K)) Σ_i Σ_k (z_s[i, k] − z_t[i, k])²

Paper: Ba & Caruana, "Do Deep Nets Really Need to be Deep?", NeurIPS 2014,
https://arxiv.org/abs/1312.6184.

The paper trains on the logits alone, with ½ of the sum over classes; `method=logit_mse` adds the
labels' cross-entropy, as later benchmarks do, and has the weight 0.1. The paper's:
`method.weights.hard=0 method.beta=K/2`.

Reduction: mean over the batch and the classes. Implementations that sum over the classes have a
term K times as large. On logits of zero mean, T²·KL tends to L / 2 as T grows (Hinton et al. 2015,
section 2.1, https://arxiv.org/abs/1503.02531).
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast


def logit_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared difference of logits.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].

    Returns:
        Scalar ≥ 0: mean over the batch and the classes.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> losses.logit_mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]])).item()
        2.0

    Reference:
        Ba & Caruana 2014, https://arxiv.org/abs/1312.6184
    """
    return F.mse_loss(upcast(student_logits), upcast(teacher_logits))


class LogitMSE(LogitObjective):
    """Mean squared difference of the two nets' logits.

    Args:
        standardise: see `LogitObjective`.
    """

    def __init__(self, standardise: bool = False) -> None:
        super().__init__(standardise)
        self.reads_log_odds = not standardise

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return logit_mse(student, teacher)
