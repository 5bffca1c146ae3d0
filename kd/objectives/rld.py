"""RLD, refined logit distillation: matches what the teacher knows where it contradicts no label.

    L = w_c · τ² · (1/B) Σ_i KL(b_t[i] ‖ b_s[i])          confidence of the sample
        + w_m · T² · (1/B) Σ_i KL(m_t[i] ‖ m_s[i])        correlation of the classes left

b_t = (max_k p_t[k], 1 − max_k p_t[k]) and b_s = (p_s[y], 1 − p_s[y]) with p = softmax(z / τ): the
student has to give the label y the confidence that the teacher has in its own prediction, right or
wrong. m is the softmax of z / T over the classes with z_t[k] < z_t[y]: the label, and all classes
that the teacher ranks above it or beside it, are left out of both nets. A sample of which no class
is left adds nothing.

Paper: Sun, Chen, Lyu, Chen, Chen & Wang, "Knowledge Distillation with Refined Logits", ICCV 2025,
https://arxiv.org/abs/2408.07703, which writes α for w_c and β for w_m.

Where the teacher is right, RLD at τ = T is decoupled KD (`kd.objectives.dkd`). The classes that the
teacher ranks at or above the label get a gradient from the first line alone, which moves the
probabilities of all other classes in proportion to the student's own. The authors' code takes
logarithms of probabilities in the first line, which are not finite for a very confident student;
here both are computed in log space.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch
from torch import Tensor

from kd.objectives.checks import check_temperature
from kd.objectives.dkd import other_logits
from kd.objectives.kd import kl_per_sample
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast

# exp underflows to 0 at it, and where every class has it, probabilities are uniform in both nets
_LEFT_OUT = -1e9


def rld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    confidence_temperature: float = 1.0,
    confidence_weight: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Refined logit distillation.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        target: class indices [B], int64.
        temperature: T > 0 for the classes below the label, in both nets.
        confidence_temperature: τ > 0 for the confidence, in both nets.
        confidence_weight: w_c ≥ 0, the paper's α.
        beta: w_m ≥ 0, the paper's β.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch. 0 where the student has the teacher's
        logits and the teacher is right.

    Example:
        The teacher is sure of class 0, where the label is 1. The student has the same confidence in
        the label, and the remaining two classes in the teacher's proportion:

        >>> import torch
        >>> from kd import losses
        >>> teacher, student = torch.tensor([[8.0, 2.0, 1.0, 0.0], [2.0, 8.0, 1.0, 0.0]])[:, None]
        >>> losses.rld(student, teacher, torch.tensor([1])).item() < 1e-6
        True

    Reference:
        Sun et al. 2025, https://arxiv.org/abs/2408.07703
    """
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    confidence = confidence_kl(student, teacher, target, confidence_temperature)
    correlation = masked_kl(student, teacher, target, temperature)
    return (confidence_weight * confidence + beta * correlation).mean()


def confidence_kl(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """τ²·KL of the prediction against the rest from the label against the rest, [B]."""
    log_student = _against_rest(student / temperature, target)
    log_teacher = _against_rest(teacher / temperature, teacher.argmax(1))
    return temperature**2 * kl_per_sample(log_student, log_teacher)


def _against_rest(logits: Tensor, index: Tensor) -> Tensor:
    """Log-probabilities [B, 2] of one class a sample, `index` [B], and of all others together."""
    rest = other_logits(logits, index).logsumexp(1, keepdim=True)
    return torch.cat([logits.gather(1, index[:, None]), rest], 1).log_softmax(1)


def masked_kl(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T²·KL over the classes that the teacher ranks below the label, [B]."""
    left_out = teacher >= teacher.gather(1, target[:, None])
    log_student, log_teacher = (
        (logits / temperature).masked_fill(left_out, _LEFT_OUT).log_softmax(1)
        for logits in (student, teacher)
    )
    return temperature**2 * kl_per_sample(log_student, log_teacher)


class RefinedLogits(LogitObjective):
    """Refined logit distillation as a loss term; see `rld`.

    Args:
        temperature: T > 0 for the classes below the label, in both nets.
        confidence_temperature: τ > 0 for the confidence, in both nets.
        confidence_weight: w_c ≥ 0, the paper's α.
        correlation_weight: w_m ≥ 0, the paper's β.
        standardise: see `LogitObjective`. It leaves the order of classes, and so the mask, as it
            is, and limits the confidence that the student is to have.

    Raises:
        ValueError: a setting is out of range.
    """

    needs_labels = True
    scheduled: ClassVar = {
        "temperature": check_temperature,
        "confidence_temperature": check_temperature,
    }

    def __init__(
        self,
        temperature: float = 4.0,
        confidence_temperature: float = 1.0,
        confidence_weight: float = 1.0,
        correlation_weight: float = 8.0,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        self.confidence_temperature = check_temperature(confidence_temperature)
        weights = {
            "confidence_weight": confidence_weight,
            "correlation_weight": correlation_weight,
        }
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f"{name} must be ≥ 0, got {weight!r}")
        self.weights = confidence_weight, correlation_weight

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        temperatures = self.temperature, self.confidence_temperature
        return rld(student, teacher, target, *temperatures, *self.weights)
