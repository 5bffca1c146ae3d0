"""Soft targets: matches the softened probabilities of student and teacher.

    L = T² · (1/B) Σ_i KL(p_t^T[i] ‖ p_s^T[i]),    p^T = softmax(z / T)

Paper: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531.

The gradient of the divergence shrinks like 1/T²; the factor T² keeps its size when T changes.
Public implementations differ: `torch.nn.KLDivLoss()` with its default reduction averages over the
classes as well, which divides the term by K, and several implementations omit T².

`variant="reverse"` is T²·KL(p_s ‖ p_t), which chooses one of several modes of the teacher where the
student cannot have them all, and `variant="hellinger"` 2·T²·Σ_k (√p_s − √p_t)², between the two.
All three are alpha-beta divergences (Wang et al., ICML 2025, https://arxiv.org/abs/2505.04560; see
`kd.objectives.abkd`), with powers (1, 0), (0, 1) and (½, ½).

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.abkd import alpha_beta
from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.dkd import decoupled_kl
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast

VARIANTS = {"forward": (1.0, 0.0), "reverse": (0.0, 1.0), "hellinger": (0.5, 0.5)}


def kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    variant: str = "forward",
) -> Tensor:
    """T²·KL(teacher ‖ student) of softened probabilities.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T > 0, for both nets.
        variant: `forward`; `reverse` for KL(student ‖ teacher); `hellinger` for the squared
            distance of roots of probabilities, twice.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch. 0 where the logits of every sample differ
        by a constant only.

    Raises:
        ValueError: `variant` is unknown.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
        >>> losses.kd(student, teacher, temperature=4.0)
        tensor(1.7751)

    Reference:
        Hinton et al. 2015, https://arxiv.org/abs/1503.02531
    """
    check_choice("variant", variant, [*VARIANTS])
    # In log space, because the logarithm of a probability that underflows is −inf.
    log_student = F.log_softmax(upcast(student_logits) / temperature, dim=1)
    log_teacher = F.log_softmax(upcast(teacher_logits) / temperature, dim=1)
    if variant == "forward":
        divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
    else:
        divergence = alpha_beta(log_teacher, log_student, *VARIANTS[variant]).mean()
    return divergence * temperature**2


def kl_per_sample(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    """KL(teacher ‖ student) of log-probabilities [B, K], summed over classes: [B]."""
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1)


def kl_by_class(
    student: Tensor, teacher: Tensor, target: Tensor, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Parts of KL(softmax(teacher) ‖ softmax(student)) of logits [B, K], each [B].

        KL = KL(b_t ‖ b_s) + (1 − p_t[y]) · KL(p̂_t ‖ p̂_s),    as in `kd.objectives.dkd`

    Args:
        student: [B, K], divided by the temperature.
        teacher: [B, K], likewise.
        target: labels y [B].
        share: of the other classes in the second part, see `decoupled_kl`. At 1 the parts sum to
            the divergence.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[2.0, 0.0, 1.0]])
        >>> parts = kl_by_class(student, teacher, torch.tensor([0]))
        >>> torch.allclose(sum(parts), kd(student, teacher, temperature=1.0))
        True
    """
    label, others = decoupled_kl(student, teacher, target, 1.0, share)
    confidence = F.softmax(teacher, dim=1).gather(1, target[:, None]).squeeze(1)
    return label, (1 - confidence) * others


class SoftTargets(LogitObjective):
    """Soft targets as a loss term; see `kd`.

    Args:
        temperature: T > 0, for both nets.
        standardise: see `LogitObjective`.
        variant: `forward`, `reverse` or `hellinger`, see `kd`.

    Raises:
        ValueError: `temperature` is out of range, or `variant` is unknown.
    """

    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self, temperature: float, standardise: bool = False, variant: str = "forward"
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        check_choice("variant", variant, [*VARIANTS])
        self.variant = variant
        self.by_class = variant == "forward"

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return kd(student, teacher, self.temperature, self.variant)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        softened = student / self.temperature, teacher / self.temperature
        label, others = kl_by_class(*softened, target, share)
        scale = self.temperature**2
        return scale * label.mean(), scale * others.mean()
