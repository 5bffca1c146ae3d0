"""Decoupled KD: matches the label's probability and the other classes' shape separately.

    L = T² · (1/B) Σ_i [ w_y · KL(b_t[i] ‖ b_s[i]) + w_o · KL(p̂_t[i] ‖ p̂_s[i]) ]

b = (p[y], 1 − p[y]) is the probability of the label y against all others, p = softmax(z / T), and
p̂ the softmax of z / T over the K − 1 other classes.

Paper: Zhao, Cui, Song, Qiu & Liang, "Decoupled Knowledge Distillation", CVPR 2022,
https://arxiv.org/abs/2203.08679, which writes α for w_y and β for w_o.

Ordinary soft targets are w_y = 1 with w_o = 1 − p_t[y] in every sample, so that a confident teacher
suppresses the second term. The authors' code masks the label by subtracting 1000 from its logit and
takes logarithms of probabilities, which is not finite for a very confident net; here the label's
column is removed, and everything stays in log space. With two classes the second term is 0, since
one other class has no shape.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.checks import check_temperature
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Soft targets with separate weights for the label and for the other classes.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        target: labels [B], int64.
        temperature: T > 0, for both nets.
        target_weight: w_y ≥ 0, the paper's α.
        beta: w_o ≥ 0, the paper's β.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        The teacher has equal probabilities for the label and both other classes together, the
        student twice as much for each other class as for the label:

        >>> import torch
        >>> from kd import losses
        >>> teacher, student = torch.tensor([[2.0, 1.0, 1.0], [1.0, 2.0, 2.0]]).log()[:, None]
        >>> loss = losses.dkd(student, teacher, torch.tensor([0]), temperature=1.0)
        >>> loss  # ½·log(½ / ⅕) + ½·log(½ / ⅘); the others have one shape
        tensor(0.2231)

    Reference:
        Zhao et al. 2022, https://arxiv.org/abs/2203.08679
    """
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    label, others = decoupled_kl(student, teacher, target, temperature)
    return (target_weight * label + beta * others).mean()


def other_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Logits [B, K − 1] of all classes but the label [B], in their order."""
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, columns + (columns >= target[:, None]).long())


def decoupled_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """T²·KL of label against rest, and T²·KL among the rest; of logits [B, K], each [B].

    Args:
        student: [B, K].
        teacher: [B, K].
        target: labels [B].
        temperature: T > 0.
        share: of the other classes that are compared, in (0, 1]: those of the teacher's largest
            logits, at least two.
    """
    binary, others = [], []
    for logits in (student / temperature, teacher / temperature):
        label, rest = logits.gather(1, target[:, None]), other_logits(logits, target)
        binary.append(F.log_softmax(torch.cat([label, rest.logsumexp(1, keepdim=True)], 1), 1))
        others.append(rest)
    shapes = (F.log_softmax(rest, 1) for rest in largest(others[0], others[1], share))
    scale = temperature**2
    return scale * _kl(*binary), scale * _kl(*shapes)


def largest(student: Tensor, teacher: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Leave a share in (0, 1] of the columns of [B, C]: those of the teacher's largest logits.

    At least two, because a single class has no shape.
    """
    if share == 1:
        return student, teacher
    classes = teacher.shape[1]
    kept = teacher.topk(min(max(round(share * classes), 2), classes)).indices
    return student.gather(1, kept), teacher.gather(1, kept)


def _kl(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1)


class Decoupled(LogitObjective):
    """Decoupled KD as a loss term.

    Args:
        temperature: T > 0, for both nets.
        target_weight: w_y ≥ 0, weight of the label against all other classes.
        other_weight: w_o ≥ 0, weight of the shape among the other classes.
        standardise: see `LogitObjective`.

    Raises:
        ValueError: a setting is out of range.
    """

    needs_labels = True
    by_class = True

    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        temperature: float = 4.0,
        target_weight: float = 1.0,
        other_weight: float = 8.0,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        for name, weight in {"target_weight": target_weight, "other_weight": other_weight}.items():
            if weight < 0:
                raise ValueError(f"{name} must be ≥ 0, got {weight!r}")
        self.target_weight, self.other_weight = target_weight, other_weight

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        weights = (self.target_weight, self.other_weight)
        return dkd(student, teacher, target, self.temperature, *weights)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        label, others = decoupled_kl(student, teacher, target, self.temperature, share)
        return self.target_weight * label.mean(), self.other_weight * others.mean()
