"""The label's probability and the shape of the rest, matched apart from each other.

    L = T² · (1/B) Σ_i [ w_y · KL(b_t[i] ‖ b_s[i]) + w_o · KL(p̂_t[i] ‖ p̂_s[i]) ]

b = (p[y], 1 − p[y]) says how sure a net is of the label y, p̂ = softmax of z / T over the K − 1
other classes which of those it prefers. Both sums run over classes; p = softmax(z / T).

Zhao, Cui, Song, Qiu & Liang, "Decoupled Knowledge Distillation", 2022. The paper writes α for w_y
and β for w_o; the usual soft targets are w_y = 1 with w_o = 1 − p_t[y] in every sample, so that
there the sureness of the teacher suppresses the second term. The authors' code takes the label out
by subtracting 1000 from its logit and takes logarithms of probabilities, which is not finite for a
very confident net; here the label's column is left out and everything stays in log space. With two
classes the second term is 0: one other class has no shape.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature


def other_logits(logits: Tensor, target: Tensor) -> Tensor:
    """Leave the label's column out of every row: [B, K] and labels [B] to [B, K − 1]."""
    columns = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, columns + (columns >= target[:, None]).long())


def decoupled_kl(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """T²·KL of label against rest, and T²·KL among the rest; of logits [B, K], each [B]."""
    binary, others = [], []
    for logits in (student / temperature, teacher / temperature):
        label, rest = logits.gather(1, target[:, None]), other_logits(logits, target)
        binary.append(F.log_softmax(torch.cat([label, rest.logsumexp(1, keepdim=True)], 1), 1))
        others.append(F.log_softmax(rest, 1))
    scale = temperature**2
    return scale * _kl(*binary), scale * _kl(*others)


def _kl(log_student: Tensor, log_teacher: Tensor) -> Tensor:
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1)


class Decoupled(LogitObjective):
    """Soft targets whose two parts have weights of their own.

    Args:
        temperature: T > 0, for both nets.
        target_weight: w_y ≥ 0, of the label against the rest.
        other_weight: w_o ≥ 0, of the classes other than the label.
        standardise: as `LogitObjective`.
    """

    needs_labels = True

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
        label, others = decoupled_kl(student, teacher, target, self.temperature)
        return (self.target_weight * label + self.other_weight * others).mean()
