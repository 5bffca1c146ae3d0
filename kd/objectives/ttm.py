"""The teacher's distribution raised to a power, matched by the student's as it is.

    ttm:  L = (1/B) Σ_i KL(p̂_t[i] ‖ p_s[i]),          p̂_t = p_t^γ / U(p_t),   γ = 1 / T
    wttm: L = (1/B) Σ_i U(p_t[i]) · KL(p̂_t[i] ‖ p_s[i]),       U(p) = Σ_k p[k]^γ

p = softmax(z), so that p̂_t = softmax(z_t / T): soft targets without a temperature on the student's
side, and without the factor T². Against those at T on both sides the term has one more part, which
keeps the student's own distribution smooth (the paper's equation 15, H_γ Rényi's entropy):

    KL(p̂_t ‖ p_s) = T · KL(p̂_t ‖ p̂_s) − (T − 1) · H_γ(p_s) + (T − 1) · H(p̂_t)

U is 1 for a certain teacher and K^(1−γ) for one without a preference: smooth targets weigh more.

Zheng & Yang, "Knowledge Distillation Based on Transformed Teacher Matching", 2024. The authors'
code raises probabilities to the power; here it is a multiple of their logarithm, with one result.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature


def transformed_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) ‖ softmax(student)) of logits [B, K] by sample, [B]."""
    log_student = F.log_softmax(student, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1)


def power_sum(logits: Tensor, temperature: float) -> Tensor:
    """Σ_k softmax(logits)[k]^(1/T) by sample, [B]."""
    return (F.log_softmax(logits, dim=1) / temperature).logsumexp(1).exp()


class TransformedTeacher(LogitObjective):
    """Divergence of the student's own distribution from the teacher's softened one.

    Args:
        temperature: T ≥ 1, for the teacher alone; the paper's γ is 1 / T.
        weighted: weigh every sample by the power sum of the teacher's distribution.
        standardise: as `LogitObjective`.
    """

    def __init__(
        self, temperature: float, weighted: bool = False, standardise: bool = False
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        if self.temperature < 1:
            raise ValueError(f"temperature must be ≥ 1, got {temperature!r}")
        self.weighted = weighted

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        divergence = transformed_kl(student, teacher, self.temperature)
        if self.weighted:
            divergence = power_sum(teacher, self.temperature) * divergence
        return divergence.mean()
