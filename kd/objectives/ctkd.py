"""Curriculum temperature: soft targets at a temperature trained against the student.

    L = T² · (1/B) Σ_i KL(p_t^T[i] ‖ p_s^T[i]),    T = T_0 + R · σ(θ),    p^T = softmax(z / T)

The student minimises L; θ, one number for all samples, maximises it: its gradient is multiplied by
−λ. The factor λ = (1 − cos(π · min(progress / ramp, 1))) / 2 rises from 0 to 1 along half a cosine
over a first part of training and stays at 1, so that the task becomes harder. T stays in
(T_0, T_0 + R).

Paper: Li, Li, Yang, Zhao, Song, Luo, Li & Yang, "Curriculum Temperature for Knowledge
Distillation", AAAI 2023, https://arxiv.org/abs/2211.16231.

The paper also has a temperature per sample, from a small net on both logits; this is its global
one. The authors' code decreases λ from 0 to −1 instead of the minus sign, which is equivalent, and
updates it once an epoch; here it changes at every step. The optimizer of the student trains θ.

Reduction: sum over classes, mean over the batch.
"""

import math

import torch
from torch import Tensor, nn

from kd.objectives.kd import kd, kl_by_class
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast


def ctkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    theta: Tensor,
    reversal: float = 1.0,
    lowest: float = 1.0,
    span: float = 20.0,
) -> Tensor:
    """Soft targets at the temperature `lowest + span · sigmoid(theta)`, with θ's gradient reversed.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        theta: trained scalar θ.
        reversal: λ ≥ 0, factor of the reversed gradient of θ.
        lowest: T_0 > 0, lower bound of the temperature.
        span: R > 0, length of the range of the temperature.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        Gradient descent on the loss changes θ so that the loss grows:

        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.zeros(1, 2), torch.tensor([[4.0, 0.0]])
        >>> theta = torch.tensor(0.0, requires_grad=True)
        >>> loss = losses.ctkd(student, teacher, theta)
        >>> loss.backward()
        >>> bool(losses.ctkd(student, teacher, theta - theta.grad) > loss)
        True

    Reference:
        Li et al. 2023, https://arxiv.org/abs/2211.16231
    """
    temperature = trained_temperature(theta, reversal, lowest, span)
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    return kd(student / temperature, teacher / temperature, 1.0) * temperature**2


def trained_temperature(theta: Tensor, reversal: float, lowest: float, span: float) -> Tensor:
    """T = T_0 + R · σ(θ), a scalar, whose gradient at θ is reversed."""
    return lowest + span * upcast(reverse_gradient(theta, reversal)).sigmoid()


def reverse_gradient(parameter: Tensor, factor: float) -> Tensor:
    """Return the parameter's value; its gradient is multiplied by −factor."""
    return parameter.detach() - factor * (parameter - parameter.detach())


class CurriculumTemperature(LogitObjective):
    """Curriculum temperature as a loss term with the trained parameter θ.

    Args:
        lowest: T_0 > 0, lower bound of the temperature.
        span: R > 0, length of the range of the temperature.
        theta: initial value of θ.
        ramp: fraction of training in (0, 1] over which λ rises to 1.
        standardise: see `LogitObjective`.

    Raises:
        ValueError: a setting is out of range.
    """

    by_class = True

    def __init__(
        self,
        lowest: float = 1.0,
        span: float = 20.0,
        theta: float = 1.0,
        ramp: float = 10 / 240,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        for name, value in {"lowest": lowest, "span": span}.items():
            if value <= 0:
                raise ValueError(f"{name} must be > 0, got {value!r}")
        if not 0 < ramp <= 1:
            raise ValueError(f"ramp must be a fraction of training in (0, 1], got {ramp!r}")
        self.lowest, self.span, self.ramp = lowest, span, ramp
        self.theta = nn.Parameter(torch.tensor(float(theta)))

    @property
    def reversal(self) -> float:
        """Current λ, from `progress`."""
        return (1 - math.cos(math.pi * min(self.progress / self.ramp, 1.0))) / 2

    def temperature(self) -> Tensor:
        """Current T, a scalar without gradient."""
        return self.lowest + self.span * self.theta.detach().float().sigmoid()

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return ctkd(student, teacher, self.theta, self.reversal, self.lowest, self.span)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        temperature = trained_temperature(self.theta, self.reversal, self.lowest, self.span)
        softened = student / temperature, teacher / temperature
        label, others = kl_by_class(*softened, target, share)
        return label.mean() * temperature**2, others.mean() * temperature**2
