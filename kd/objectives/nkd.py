"""Normalised KD: cross-entropy on the label, weighted by the teacher, and on the other classes.

    L = (1/B) Σ_i [ −p_t[i, y] · log p_s[i, y] − γ · T² · Σ_{k≠y} q_t[i, k] · log q_s[i, k] ]

p = softmax(z) at temperature 1. q = softmax(z / T) over the K − 1 classes other than the label y,
which equals their softened probabilities divided by the sum of these.

Paper: Yang, Zeng, Li, Zhang, Yuan & Li, "From Knowledge Distillation to Self-Knowledge
Distillation: A Unified Approach with Normalized Loss and Customized Soft Labels", ICCV 2023,
https://arxiv.org/abs/2303.13005.

Both parts are cross-entropies, not divergences: L is not 0 where the student equals the teacher.
An early version of the authors' code removes the label by subtracting 1000 from its logit before
dividing by T, and adds a constant inside the logarithm; here the label's column is removed. With
two classes the second part is 0.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.checks import check_temperature
from kd.objectives.dkd import largest, other_logits
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast


def nkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 1.0,
    gamma: float = 1.5,
) -> Tensor:
    """Normalised KD.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        target: class indices [B], int64.
        temperature: T > 0 for the classes other than the label, in both nets.
        gamma: weight γ ≥ 0 of these classes.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        With a teacher that is certain of the label it is the cross-entropy with the label, here
        log 3:

        >>> import torch
        >>> from kd import losses
        >>> certain = torch.tensor([[100.0, 0.0, 0.0]])
        >>> loss = losses.nkd(torch.zeros(1, 3), certain, torch.tensor([0]), gamma=0.0)
        >>> round(loss.item(), 4)
        1.0986

    Reference:
        Yang et al. 2023, https://arxiv.org/abs/2303.13005
    """
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    others = other_cross_entropy(student, teacher, target, temperature)
    return target_cross_entropy(student, teacher, target) + gamma * others


def target_cross_entropy(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """−p_t[y]·log p_s[y] of logits [B, K] and labels [B], mean over the batch."""
    return target_terms(student, teacher, target).mean()


def target_terms(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """−p_t[y]·log p_s[y] of logits [B, K] and labels [B], per sample: [B]."""
    confidence = F.softmax(teacher, dim=1).gather(1, target[:, None])
    return -(confidence * F.log_softmax(student, dim=1).gather(1, target[:, None])).squeeze(1)


def other_cross_entropy(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, share: float = 1.0
) -> Tensor:
    """T² times the cross-entropy over the classes other than the label, mean over the batch.

    A `share` below 1 leaves those of the teacher's largest logits.
    """
    return other_terms(student, teacher, target, temperature, share).mean() * temperature**2


def other_terms(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, share: float = 1.0
) -> Tensor:
    """The cross-entropy over the classes other than the label, per sample and without T²: [B]."""
    # [B, K − 1]. Removing the label's column is exact; a mask value such as −1000 becomes −1000 / T
    # and gives the label some probability if the other logits are as low.
    ours, theirs = largest(other_logits(student, target), other_logits(teacher, target), share)
    log_student = F.log_softmax(ours / temperature, dim=1)
    soft_teacher = F.softmax(theirs / temperature, dim=1)
    return -(soft_teacher * log_student).sum(1)


class Normalized(LogitObjective):
    """Normalised KD as a loss term.

    Args:
        temperature: T > 0 for the classes other than the label, in both nets.
        gamma: weight γ ≥ 0 of these classes.
        standardise: see `LogitObjective`; only the classes other than the label have standardised
            logits, as these limit the confidence in the label.

    Raises:
        ValueError: `temperature` or `gamma` is out of range.
    """

    needs_labels = True
    by_class = True
    reads_raw_logits = True
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self, temperature: float = 1.0, gamma: float = 1.5, standardise: bool = False
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        if gamma < 0:
            raise ValueError(f"gamma must be ≥ 0, got {gamma!r}")
        self.gamma = gamma

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        label, others = self.compare_by_class(student, teacher, target, share=1.0)
        return label + others

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        softened = self.standardised(student), self.standardised(teacher)
        others = other_cross_entropy(*softened, target, self.temperature, share)
        return target_cross_entropy(student, teacher, target), self.gamma * others
