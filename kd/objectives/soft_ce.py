"""Soft-target cross-entropy: soft targets with cross-entropy instead of the divergence.

    L = −T² · (1/B) Σ_i Σ_k p_t^T[i, k] · log p_s^T[i, k],    p^T = softmax(z / T)

Paper: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531.

The gradient is that of `kd`; the value is larger by T² times the entropy of the teacher's softened
probabilities. Several implementations omit T².

Reduction: sum over classes, mean over the batch.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.kd import SoftTargets
from kd.objectives.precision import upcast


def soft_ce(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """T² times the cross-entropy of the student's with the teacher's softened probabilities.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T > 0, for both nets.

    Returns:
        Scalar: sum over classes, mean over the batch. Its minimum, at the teacher's logits, is T²
        times the mean entropy of the teacher's softened probabilities.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
        >>> losses.soft_ce(student, teacher, temperature=2.0)
        tensor(2.7726)

    Reference:
        Hinton et al. 2015, https://arxiv.org/abs/1503.02531
    """
    # cross_entropy with probabilities as target sums over the classes.
    target = F.softmax(upcast(teacher_logits) / temperature, dim=1)
    return F.cross_entropy(upcast(student_logits) / temperature, target) * temperature**2


class SoftTargetCrossEntropy(SoftTargets):
    """Soft-target cross-entropy as a loss term; see `soft_ce`.

    Args:
        temperature: T > 0, for both nets.
        standardise: see `LogitObjective`.
    """

    # Without the variants of the divergence, which differ from the cross-entropy in their gradients
    def __init__(self, temperature: float, standardise: bool = False) -> None:
        super().__init__(temperature, standardise)

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return soft_ce(student, teacher, self.temperature)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        label, others = super().compare_by_class(student, teacher, target, share)
        # The cross-entropy at the teacher is its entropy, a constant, by which the value is larger.
        return label + soft_ce(teacher, teacher, self.temperature), others
