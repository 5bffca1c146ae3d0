"""DIST: matches the correlations of probabilities, within samples and within classes.

    L = T² · [ β · (1/B) Σ_i (1 − ρ(p_s[i, :], p_t[i, :]))
             + γ · (1/K) Σ_k (1 − ρ(p_s[:, k], p_t[:, k])) ],    p = softmax(z / T)

ρ is Pearson's correlation: over the K classes of a sample (the paper's inter-class relation) and
over the B samples of a class (its intra-class relation).

Paper: Huang, You, Wang, Qian & Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
https://arxiv.org/abs/2205.10536.

The factor T² is in the authors' code, not in the paper's equations. The second sum depends on the
batch: with few samples ρ is noisy, with one it is constant. A row or column that is constant in
either net has no correlation; it counts as ρ = 0 and has no gradient, where that of the formula is
infinite.

Reduction: mean over samples, plus mean over classes.
"""

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softmax

from kd.objectives.checks import check_temperature
from kd.objectives.logits import LogitObjective
from kd.objectives.pairs import ONE_BATCH
from kd.objectives.precision import upcast

# Squared length below which a centred row of probabilities is rounding error: float32 resolves
# 6e-8 near 1, and (1e-7)² = 1e-14.
_CONSTANT = 1e-14


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    """T² times the Pearson distances of probabilities, by samples and by classes.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T > 0, for both nets.
        beta: β ≥ 0, weight of the correlation over the classes of a sample.
        gamma: γ ≥ 0, weight of the correlation over the samples of a class.

    Returns:
        Scalar in [0, 2·T²·(β + γ)]: mean over samples, plus mean over classes.

    Example:
        Probabilities that prefer the opposite class, at T = 1:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        >>> losses.dist(-teacher, teacher, temperature=1.0)  # 2·β + 2·γ
        tensor(4.)

    Reference:
        Huang et al. 2022, https://arxiv.org/abs/2205.10536
    """
    student, teacher = (
        softmax(upcast(logits) / temperature, dim=1) for logits in (student_logits, teacher_logits)
    )
    within_samples = pearson_distance(student, teacher)
    within_classes = pearson_distance(student.T, teacher.T)
    return (beta * within_samples + gamma * within_classes) * temperature**2


def pearson_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − ρ of the rows of two matrices [M, N], mean over the rows."""
    student, teacher = (rows - rows.mean(1, keepdim=True) for rows in (student, teacher))
    student_square, teacher_square = (rows.square().sum(1) for rows in (student, teacher))
    varies = (student_square > _CONSTANT) & (teacher_square > _CONSTANT)
    # One root for each factor: the product of the squares underflows. The clamp keeps the gradients
    # of rows that are masked out finite.
    scale = student_square.clamp_min(_CONSTANT).sqrt() * teacher_square.clamp_min(_CONSTANT).sqrt()
    correlation = (student * teacher).sum(1) / scale
    return (1 - correlation.where(varies, 0.0)).mean()


class PredictionRelations(LogitObjective):
    """DIST as a loss term.

    Args:
        temperature: T > 0, for both nets.
        beta: β ≥ 0, weight of the correlation over the classes of a sample.
        gamma: γ ≥ 0, weight of the correlation over the samples of a class.
        standardise: see `LogitObjective`.

    Raises:
        ValueError: a setting is out of range.
    """

    one_device = ONE_BATCH

    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        temperature: float = 4.0,
        beta: float = 2.0,
        gamma: float = 2.0,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        for name, weight in {"beta": beta, "gamma": gamma}.items():
            if weight < 0:
                raise ValueError(f"{name} must be ≥ 0, got {weight!r}")
        self.beta, self.gamma = beta, gamma

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return dist(student, teacher, self.temperature, self.beta, self.gamma)
