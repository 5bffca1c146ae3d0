"""Soft targets: matches the softened probabilities of student and teacher.

    L = T² · (1/B) Σ_i KL(p_t^T[i] ‖ p_s^T[i]),    p^T = softmax(z / T)

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531. The factor T² keeps the size of the gradient when T changes.
Public code differs: `KLDivLoss()` with its default reduction averages over classes too, which
divides the term by K; several implementations leave T² out.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature, upcast


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """T²·KL of the teacher's softened probabilities from the student's.

    Summed over classes, mean over the batch.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T > 0, for both nets.

    Returns:
        A scalar ≥ 0; 0 where both rows of logits differ by a constant only.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
        >>> losses.kd(student, teacher, temperature=4.0)
        tensor(1.7751)

    Reference:
        Hinton et al. 2015, https://arxiv.org/abs/1503.02531
    """
    log_student = F.log_softmax(upcast(student_logits) / temperature, dim=1)
    log_teacher = F.log_softmax(upcast(teacher_logits) / temperature, dim=1)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
    return divergence * temperature**2


class SoftTargets(LogitObjective):
    """Soft targets as a loss term; see `kd`.

    Args:
        temperature: T > 0, for both nets.
        standardise: as `LogitObjective`.
    """

    def __init__(self, temperature: float, standardise: bool = False) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return kd(student, teacher, self.temperature)
