"""Logit regression: L = (1/BK) Σ_i Σ_k (z_s[i, k] − z_t[i, k])².

Ba & Caruana, "Do Deep Nets Really Need to be Deep?", 2014. Mean over batch and classes; code that
sums over classes has a term K times as large. On logits of zero mean, T²·KL tends to half of this
term as T grows (Hinton et al. 2015, section 2.1).
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective


class LogitMSE(LogitObjective):
    """Mean squared difference of the logits, over batch and classes."""

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(student, teacher)
