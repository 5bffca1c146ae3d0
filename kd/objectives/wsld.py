"""Soft targets, weighed by how much worse than the teacher the student knows the label.

    L = T² · (1/B) Σ_i w_i · KL(p_t^T[i] ‖ p_s^T[i]),   w_i = 1 − exp(−CE_s[i] / CE_t[i])

CE is the cross-entropy with the label at temperature 1; w passes no gradient. Where the student is
already surer of the label than the teacher, soft targets would only add variance: w is small.

Zhou, Song, Chen, Zhou, Wang, Yuan & Zhang, "Rethinking Soft Labels for Knowledge Distillation: A
Bias-Variance Tradeoff Perspective", 2021. The authors weigh the cross-entropy with the soft
targets; since w is a constant to the gradient, the divergence differs from it by none of the
gradient, and is 0 at the teacher. They divide by CE_t + 1e-7; here CE_t is clamped there.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature


def label_weights(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """1 − exp(−CE_s / CE_t) of logits [B, K] and labels [B], each in [0, 1], without gradient."""
    ours, theirs = (
        F.cross_entropy(z.detach(), target, reduction="none") for z in (student, teacher)
    )
    return -(-ours / theirs.clamp_min(1e-7)).expm1()


class WeightedSoftLabels(LogitObjective):
    """T²·KL of the softened probabilities, every sample by its weight.

    Args:
        temperature: T > 0, for both nets in the divergence.
        standardise: as `LogitObjective`.
    """

    needs_labels = True

    def __init__(self, temperature: float = 4.0, standardise: bool = False) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        ours, theirs = (F.log_softmax(z / self.temperature, dim=1) for z in (student, teacher))
        divergence = F.kl_div(ours, theirs, log_target=True, reduction="none").sum(1)
        weights = label_weights(student, teacher, target)
        return (weights * divergence).mean() * self.temperature**2
