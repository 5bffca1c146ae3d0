"""Soft targets: matches the softened probabilities of student and teacher.

    L = T² · (1/B) Σ_i KL(p_t^T[i] ‖ p_s^T[i]),    p^T = softmax(z / T)

Paper: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531.

The gradient of the divergence shrinks like 1/T²; the factor T² keeps its size when T changes.
Public implementations differ: `torch.nn.KLDivLoss()` with its default reduction averages over the
classes as well, which divides the term by K, and several implementations omit T².

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature, upcast
from kd.objectives.dkd import decoupled_kl


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """T²·KL(teacher ‖ student) of softened probabilities.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T > 0, for both nets.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch. 0 where the logits of every sample differ
        by a constant only.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
        >>> losses.kd(student, teacher, temperature=4.0)
        tensor(1.7751)

    Reference:
        Hinton et al. 2015, https://arxiv.org/abs/1503.02531
    """
    # In log space, because the logarithm of a probability that underflows is −inf.
    log_student = F.log_softmax(upcast(student_logits) / temperature, dim=1)
    log_teacher = F.log_softmax(upcast(teacher_logits) / temperature, dim=1)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
    return divergence * temperature**2


def kl_per_sample(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of log-probabilities [B, K], summed over classes: [B]."""
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1)


class SoftTargets(LogitObjective):
    """Soft targets as a loss term; see `kd`.

    Args:
        temperature: T > 0, for both nets.
        standardise: see `LogitObjective`.

    Raises:
        ValueError: `temperature` is out of range.
    """

    by_class = True
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(self, temperature: float, standardise: bool = False) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return kd(student, teacher, self.temperature)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        label, others = decoupled_kl(student, teacher, target, self.temperature, share)
        confidence = torch.softmax(teacher / self.temperature, 1).gather(1, target[:, None])
        return label.mean(), ((1 - confidence.squeeze(1)) * others).mean()
