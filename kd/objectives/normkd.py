"""NormKD: a temperature for every sample, proportional to the spread of its logits.

    L = (1/B) Σ_i T_t[i]² · KL(softmax(z_t[i] / T_t[i]) ‖ softmax(z_s[i] / T_s[i]))
    T_t[i] = T · σ(z_t[i]),    T_s[i] = T · σ(z_s[i])

σ is the (unbiased) standard deviation over the classes of one sample.

Paper: Chi, Zheng, Li, Yang, Wu, Lin & Cai, "NormKD: Normalized Logits for Knowledge Distillation",
2023, https://arxiv.org/abs/2308.00520.

Both nets' logits are thus softened to the same degree in every sample. As softmax ignores a shift,
the probabilities are those of logit standardisation (`kd.objectives.logits.standardise`), which
came later; NormKD differs in its weight σ(z_t[i])² of each sample, by which samples that the
teacher is sure of count more. The scale and shift of the student's logits play no part, so that the
labels alone determine its confidence. The authors' code divides by zero for a row of equal logits;
here its probabilities are uniform.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.checks import check_temperature
from kd.objectives.kd import kl_per_sample
from kd.objectives.logits import standardise
from kd.objectives.precision import upcast
from kd.types import Batch, Outputs


def normkd(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0) -> Tensor:
    """KL with a temperature for each sample of each net, times the square of the teacher's.

    Args:
        student_logits: [B, K], K ≥ 3; two classes have the same distance from their mean in every
            sample, and only the order of the logits would count.
        teacher_logits: [B, K].
        temperature: T > 0, the temperature in standard deviations of a sample's logits.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch. 0 where the logits of every sample differ
        by a positive factor and a constant only.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[4.0, 1.0, 0.0]])
        >>> losses.normkd(3 * teacher + 1, teacher).item() < 1e-6
        True
        >>> losses.normkd(-teacher, teacher).item() > 1
        True

    Reference:
        Chi et al. 2023, https://arxiv.org/abs/2308.00520
    """
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    log_student, log_teacher = (
        (standardise(logits) / temperature).log_softmax(1) for logits in (student, teacher)
    )
    weight = temperature**2 * teacher.var(1)
    return (weight * kl_per_sample(log_student, log_teacher)).mean()


class NormalizedLogits(Objective):
    """NormKD as a loss term; see `normkd`. The logits are standardised in any case.

    Args:
        temperature: T > 0, the temperature in standard deviations of a sample's logits.

    Raises:
        ValueError: `temperature` is out of range.
    """

    family = "response"
    standardise = True
    reads_log_odds = True
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return normkd(student.logits.float(), teacher.logits.float(), self.temperature)
