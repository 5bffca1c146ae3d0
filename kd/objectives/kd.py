"""The teacher's softened probabilities, matched by the student's.

    KL form:  T² · (1/B) Σ_i KL(p_t^T[i] ‖ p_s^T[i]),    p^T = softmax(z / T)
    CE form: −T² · (1/B) Σ_i Σ_k p_t^T[i, k] · log p_s^T[i, k]

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015. The two forms have
the same gradient; they differ by T² times the teacher's entropy. The factor T² keeps the gradient's
size when T changes. Public code differs: `KLDivLoss()` with its default reduction averages over
classes too, which divides the term by K; several leave T² out.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature


def soft_target_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) of logits [B, K]; summed over classes, mean over the batch."""
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
    return divergence * temperature**2


def soft_target_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² times the cross-entropy of softened logits [B, K]; summed over classes, batch mean."""
    target = F.softmax(teacher / temperature, dim=1)
    return F.cross_entropy(student / temperature, target) * temperature**2


class SoftTargets(LogitObjective):
    """T²·KL of the teacher's softened probabilities from the student's.

    Args:
        temperature: T > 0, for both nets.
        standardise: as `LogitObjective`.
    """

    def __init__(self, temperature: float, standardise: bool = False) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return soft_target_kl(student, teacher, self.temperature)


class SoftTargetCrossEntropy(SoftTargets):
    """T² times the cross-entropy with the teacher's softened probabilities."""

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return soft_target_cross_entropy(student, teacher, self.temperature)
