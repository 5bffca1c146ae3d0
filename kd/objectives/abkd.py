"""ABKD: the alpha-beta divergence of softened probabilities, between forward and reverse KL.

    L = T² · (1/B) Σ_i D(p_t[i] ‖ p_s[i]),    p = softmax(z / T)
    D(p ‖ q) = −1/(a·b) Σ_k [ p_k^a · q_k^b − a/(a+b) · p_k^(a+b) − b/(a+b) · q_k^(a+b) ]

Paper: Wang, Yang, Wang, Wang, Xu & Huang, "ABKD: Pursuing a Proper Allocation of the Probability
Mass in Knowledge Distillation via α-β-Divergence", ICML 2025, https://arxiv.org/abs/2505.04560,
which writes α for a and β for b; here these are names of weights.

The limits are included: a = 1, b = 0 is the forward divergence KL(p_t ‖ p_s) of soft targets,
a = 0, b = 1 the reverse one, a = b = ½ is 2·Σ_k (√p − √q)², a multiple of the squared Hellinger
distance, and a = b = 0 is ½·Σ_k (log p − log q)². A larger a stresses classes on which the nets
disagree less, a larger b those of which the student is confident. Negative powers are refused:
p^a has no bound for them.

The authors' code has 1/a and 1/b at b = 0 and a = 0, where the limits of the definition, and this
file, have 1/a² and 1/b². It has no factor T²: the weight of its README for ResNet-56 to ResNet-20
on CIFAR-100, 32, is 2·T² at T = 4.

Reduction: sum over classes, mean over the batch.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from kd.objectives.checks import check_temperature
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast


def abkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    teacher_power: float = 0.8,
    student_power: float = 0.3,
) -> Tensor:
    """T² times the alpha-beta divergence of the student from the teacher.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T > 0, for both nets.
        teacher_power: a ≥ 0, the power of the teacher's probabilities.
        student_power: b ≥ 0, the power of the student's probabilities.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch. 0 where the logits of every sample differ
        by a constant only.

    Example:
        Powers of 1 and 0 give the soft targets of Hinton et al.:

        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
        >>> loss = losses.abkd(student, teacher, teacher_power=1.0, student_power=0.0)
        >>> round(loss.item(), 4), round(losses.kd(student, teacher).item(), 4)
        (1.7751, 1.7751)

    Reference:
        Wang et al. 2025, https://arxiv.org/abs/2505.04560
    """
    log_student = (upcast(student_logits) / temperature).log_softmax(1)
    log_teacher = (upcast(teacher_logits) / temperature).log_softmax(1)
    divergence = alpha_beta(log_teacher, log_student, teacher_power, student_power)
    return divergence.mean() * temperature**2


def alpha_beta(log_p: Tensor, log_q: Tensor, a: float, b: float) -> Tensor:
    """D(p ‖ q) of log-probabilities [B, K], summed over classes: [B].

    With ln_c(x) = (x^c − 1)/c, whose limit at c = 0 is log x, the definition is
    1/a · Σ_k [ ln_(a+b)(q) − ln_(a+b)(p) − p^a · (ln_b(q) − ln_b(p)) ], which needs no limit in b.
    """
    if b > a:
        return alpha_beta(log_q, log_p, b, a)  # the same by the definition's symmetry
    if a == 0:
        return 0.5 * (log_p - log_q).square().sum(1)

    def gap(power: float) -> Tensor:
        return _power_log(log_q, power) - _power_log(log_p, power)

    return (gap(a + b) - (a * log_p).exp() * gap(b)).sum(1) / a


def _power_log(log: Tensor, power: float) -> Tensor:
    """(x^c − 1)/c of log x, without the loss of digits of x^c − 1 for a small c."""
    return torch.expm1(power * log) / power if power else log


class AlphaBeta(LogitObjective):
    """The alpha-beta divergence as a loss term; see `abkd`.

    Args:
        temperature: T > 0, for both nets.
        teacher_power: a ≥ 0, the power of the teacher's probabilities.
        student_power: b ≥ 0, the power of the student's probabilities.
        standardise: see `LogitObjective`.

    Raises:
        ValueError: a setting is out of range.
    """

    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        temperature: float = 4.0,
        teacher_power: float = 0.8,
        student_power: float = 0.3,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        powers = {"teacher_power": teacher_power, "student_power": student_power}
        for name, power in powers.items():
            if not 0 <= power < math.inf:
                raise ValueError(f"{name} must be a finite number ≥ 0, got {power!r}")
        self.teacher_power, self.student_power = teacher_power, student_power
        self.reads_log_odds = teacher_power == student_power == 0

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return abkd(student, teacher, self.temperature, self.teacher_power, self.student_power)
