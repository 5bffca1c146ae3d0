"""The label weighted by the teacher's belief in it, and the other classes normalised on their own.

    L = (1/B) Σ_i [ −p_t[i, y] · log p_s[i, y] − γ · T² · Σ_k p̂_t^T[i, k] · log p̂_s^T[i, k] ]

p = softmax(z) at temperature 1; p̂^T = the probabilities softmax(z / T) of the K − 1 classes other
than the label y, divided by their sum, which is softmax(z / T) over those classes.

Yang, Zeng, Li, Zhang, Yuan & Li, "From Knowledge Distillation to Self-Knowledge Distillation: A
Unified Approach with Normalized Loss and Customized Soft Labels", 2023. The cross-entropies are not
divergences: where the student equals the teacher the term is not 0. An early version of the
authors' code subtracts 1000 from the label's logit before dividing by T and adds a constant within
the logarithm; here the label's column is left out. With two classes the second sum is 0.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature
from kd.objectives.dkd import other_logits


def target_cross_entropy(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """−p_t[y]·log p_s[y] of logits [B, K], mean over the batch."""
    belief = F.softmax(teacher, dim=1).gather(1, target[:, None])
    return -(belief * F.log_softmax(student, dim=1).gather(1, target[:, None])).mean()


def other_cross_entropy(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float
) -> Tensor:
    """T² times the cross-entropy among the other classes, summed over them, batch mean."""
    ours = F.log_softmax(other_logits(student, target) / temperature, dim=1)
    theirs = F.softmax(other_logits(teacher, target) / temperature, dim=1)
    return -(theirs * ours).sum(1).mean() * temperature**2


class Normalized(LogitObjective):
    """The normalised loss of label and other classes.

    Args:
        temperature: T > 0, for the other classes of both nets.
        gamma: the weight γ ≥ 0 of the other classes.
        standardise: as `LogitObjective`.
    """

    needs_labels = True

    def __init__(
        self, temperature: float = 1.0, gamma: float = 1.5, standardise: bool = False
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        if gamma < 0:
            raise ValueError(f"gamma must be ≥ 0, got {gamma!r}")
        self.gamma = gamma

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        others = other_cross_entropy(student, teacher, target, self.temperature)
        return target_cross_entropy(student, teacher, target) + self.gamma * others
