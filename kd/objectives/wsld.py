"""Weighted soft labels: weights each sample's soft targets by the student's gap to the teacher.

    L = T² · (1/B) Σ_i w_i · KL(p_t^T[i] ‖ p_s^T[i]),   w_i = 1 − exp(−CE_s[i] / CE_t[i])

CE is the cross-entropy with the label at temperature 1; w passes no gradient. Where the student is
already more confident of the label than the teacher, soft targets raise the bias and lower the
variance (the paper's regularisation samples); w is small there.

Paper: Zhou, Song, Chen, Zhou, Wang, Yuan & Zhang, "Rethinking Soft Labels for Knowledge
Distillation: A Bias-Variance Tradeoff Perspective", ICLR 2021, https://arxiv.org/abs/2102.00650.

The authors weight the cross-entropy with the soft targets. As w is constant for the gradient, the
divergence used here has the same gradient, and it is 0 at the teacher. They divide by CE_t + 1e-7;
here CE_t is clamped to at least 1e-7.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.checks import check_temperature
from kd.objectives.kd import kl_by_class, kl_per_sample
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast


def wsld(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float = 4.0
) -> Tensor:
    """T²·KL of softened probabilities, weighted per sample.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        target: class indices [B], int64.
        temperature: T > 0, for both nets in the divergence.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        A teacher that is certain of the label gives the weight 1, that is the plain soft targets:

        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.zeros(1, 3), torch.tensor([[200.0, 0.0, 0.0]])
        >>> loss = losses.wsld(student, teacher, torch.tensor([0]))
        >>> torch.allclose(loss, losses.kd(student, teacher))
        True

    Reference:
        Zhou et al. 2021, https://arxiv.org/abs/2102.00650
    """
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    return weighted_kl(student, teacher, label_weights(student, teacher, target), temperature)


def weighted_kl(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """T²·KL of softened logits [B, K] with weights [B], mean over the batch."""
    log_student, log_teacher = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    return (weights * kl_per_sample(log_student, log_teacher)).mean() * temperature**2


def label_weights(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """w = 1 − exp(−CE_s / CE_t) [B] in [0, 1], of logits [B, K] and labels [B]; no gradient."""
    ce_student, ce_teacher = (
        F.cross_entropy(z.detach(), target, reduction="none") for z in (student, teacher)
    )
    # expm1 keeps the digits of small weights.
    return -(-ce_student / ce_teacher.clamp_min(1e-7)).expm1()


class WeightedSoftLabels(LogitObjective):
    """Weighted soft labels as a loss term.

    Args:
        temperature: T > 0, for both nets in the divergence.
        standardise: see `LogitObjective`; the weights are of the logits as they are, because
            standardised ones limit the confidence in the label.

    Raises:
        ValueError: `temperature` is out of range.
    """

    needs_labels = True
    by_class = True
    reads_raw_logits = True
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(self, temperature: float = 4.0, standardise: bool = False) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        weights = label_weights(student, teacher, target)
        softened = self.standardised(student), self.standardised(teacher)
        return weighted_kl(*softened, weights, self.temperature)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        weights = self.temperature**2 * label_weights(student, teacher, target)
        ours, theirs = (self.standardised(z) / self.temperature for z in (student, teacher))
        label, others = kl_by_class(ours, theirs, target, share)
        return (weights * label).mean(), (weights * others).mean()
