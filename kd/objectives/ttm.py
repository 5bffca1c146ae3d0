"""Transformed teacher matching: softens the teacher's probabilities, not the student's.

    ttm:  L = (1/B) Σ_i KL(q_t[i] ‖ p_s[i]),          q_t = p_t^γ / U(p_t),   γ = 1 / T
    wttm: L = (1/B) Σ_i U(p_t[i]) · KL(q_t[i] ‖ p_s[i]),       U(p) = Σ_k p[k]^γ

p = softmax(z), so q_t = softmax(z_t / T): soft targets without a temperature on the student's side
and without the factor T².

Paper: Zheng & Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
https://arxiv.org/abs/2402.11148.

Compared with soft targets at T on both sides the loss has a further term, which keeps the student's
own distribution smooth (equation 15 of the paper; H_γ is Rényi's entropy, q_s = softmax(z_s / T)):

    KL(q_t ‖ p_s) = T · KL(q_t ‖ q_s) − (T − 1) · H_γ(p_s) + (T − 1) · H(q_t)

U is 1 for a certain teacher and K^(1−γ) for a uniform one: samples with smooth targets have a
larger weight. The authors' code raises probabilities to the power γ; here their logarithms are
multiplied by γ, with the same result.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.checks import check_temperature
from kd.objectives.kd import kl_by_class, kl_per_sample
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast


def ttm(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 3.3333) -> Tensor:
    """KL of the softened teacher from the plain student.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T ≥ 1, for the teacher alone; the paper's γ is 1 / T.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        The minimum is at the teacher's logits divided by T:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[4.0, 0.0]])
        >>> losses.ttm(teacher / 4, teacher, temperature=4.0).item()
        0.0

    Reference:
        Zheng & Yang 2024, https://arxiv.org/abs/2402.11148
    """
    return transformed_kl(student_logits, teacher_logits, temperature).mean()


def wttm(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 3.3333) -> Tensor:
    """KL of the softened teacher from the plain student, weighted by the teacher's smoothness.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T ≥ 1, for the teacher alone; the paper's γ is 1 / T.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch of the weighted divergences.

    Example:
        A certain teacher has the weight 1, a uniform one K^(1 − 1/T).

        >>> import torch
        >>> from kd import losses
        >>> student, uniform = torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2)
        >>> ratio = losses.wttm(student, uniform, 2.0) / losses.ttm(student, uniform, 2.0)
        >>> round(ratio.item(), 4)
        1.4142

    Reference:
        Zheng & Yang 2024, https://arxiv.org/abs/2402.11148
    """
    divergence = transformed_kl(student_logits, teacher_logits, temperature)
    return (power_sum(teacher_logits, temperature) * divergence).mean()


def transformed_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) ‖ softmax(student)) of logits [B, K] per sample, [B]."""
    log_student = F.log_softmax(upcast(student), dim=1)
    log_teacher = F.log_softmax(upcast(teacher) / temperature, dim=1)
    return kl_per_sample(log_student, log_teacher)


def power_sum(logits: Tensor, temperature: float) -> Tensor:
    """U = Σ_k softmax(logits)[k]^(1/T) per sample, [B]."""
    return (F.log_softmax(upcast(logits), dim=1) / temperature).logsumexp(1).exp()


def check_softening(temperature: float) -> float:
    """Return `temperature` as a float; γ = 1/T ≤ 1 in the paper: T < 1 would sharpen the teacher.

    Raises:
        ValueError: it is not a number in [1, 1e6].
    """
    if check_temperature(temperature) < 1:
        raise ValueError(f"temperature must be ≥ 1, got {temperature!r}")
    return float(temperature)


class TransformedTeacher(LogitObjective):
    """Transformed teacher matching as a loss term, plain or weighted.

    Args:
        temperature: T ≥ 1, for the teacher alone; the paper's γ is 1 / T.
        weighted: False for `ttm`, True for `wttm`.
        standardise: see `LogitObjective`.

    Raises:
        ValueError: `temperature` is out of range.
    """

    by_class = True
    scheduled: ClassVar = {"temperature": check_softening}

    def __init__(
        self, temperature: float, weighted: bool = False, standardise: bool = False
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_softening(temperature)
        self.weighted = weighted

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        loss = wttm if self.weighted else ttm
        return loss(student, teacher, self.temperature)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        label, others = kl_by_class(student, teacher / self.temperature, target, share)
        if not self.weighted:
            return label.mean(), others.mean()
        weights = power_sum(teacher, self.temperature)
        return (weights * label).mean(), (weights * others).mean()
