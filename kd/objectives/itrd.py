"""ITRD: matches the correlation of features and maximises their mutual information.

    L = λ_C·correlation + λ_M·mutual

    correlation = log₂ Σ_d |1 − C_d|^(2α),  C_d the correlation over the batch of feature d of
                  r(f_s) with feature d of f_t, r a trained linear map to the teacher's width
    mutual      = H(G_s, G_t) − H(G_s),  Rényi's entropy of order 2: H(G) = −log₂ Σ_ij G_ij²,
                  G the cosines [B, B] of a net's features, jointly their products
                  (G_s)_ij (G_t)_ij, divided by the trace

Paper: Miles, López Rodríguez & Mikolajczyk, "Information Theoretic Representation Distillation",
BMVC 2022, https://arxiv.org/abs/2112.00459: α = 1.5, λ_C = 2 and λ_M = 1 (0.05 in some code).

The mutual information H(G_s) + H(G_t) − H(G_s, G_t), without the teacher's own entropy, a constant,
is −mutual. The authors' code omits both logarithms of that term, which becomes Σ G_s² − Σ G_st² and
is of the order of 1/B: `variant="difference"`. Its correlation divides by B after an unbiased
standard deviation, so it stays below 1 − 1/B; here it is the usual one, at most 1, and 1e-6 inside
the logarithm keeps value and slope finite.

Reduction: logarithm of a sum over features; sum over pairs of images.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.pairs import ONE_BATCH, check_images, flat, full_precision, gram
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("entropy", "difference")


def itrd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    order: float = 1.5,
    correlation: float = 2.0,
    mutual: float = 1.0,
    variant: str = "entropy",
) -> Tensor:
    """Correlation loss and mutual information loss, weighted.

    Args:
        student_embedding: r(f_s), embeddings [B, …], flattened to [B, D].
        teacher_embedding: embeddings [B, …], flattened to [B, D].
        order: α ≥ 1/2; above 1 the features that agree least have more weight.
        correlation: λ_C ≥ 0.
        mutual: λ_M ≥ 0.
        variant: "entropy", or "difference" for the mutual term without logarithms.

    Returns:
        Scalar of any sign, least where the embeddings are equal.

    Raises:
        UserError: fewer than 2 images.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
        >>> bool(losses.itrd(teacher, teacher) < losses.itrd(teacher.flip(0), teacher))
        True

    Reference:
        Miles et al. 2022, https://arxiv.org/abs/2112.00459
    """
    check_choice("variant", variant, VARIANTS)
    student, teacher = flat(student_embedding), flat(teacher_embedding)
    check_images(student, 2, "information-theoretic distillation")
    return correlation * correlation_term(student, teacher, order) + mutual * mutual_term(
        student, teacher, variant
    )


def correlation_term(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """log₂ Σ_d |1 − C_d|^(2α) of features [B, D]; a constant feature has C_d = 0."""
    correlations = (_standard(student) * _standard(teacher)).mean(0)
    return ((1 - correlations).clamp_min(0).pow(2 * alpha).sum() + 1e-6).log2()


def _standard(features: Tensor) -> Tensor:
    centred = features - features.mean(0)
    return centred / centred.square().mean(0).clamp_min(1e-8).sqrt()


def mutual_term(student: Tensor, teacher: Tensor, variant: str = "entropy") -> Tensor:
    """H(G_s, G_t) − H(G_s) of features [B, D_s] and [B, D_t], or without the logarithms."""
    student_gram, teacher_gram = (gram(F.normalize(rows, dim=1)) for rows in (student, teacher))
    own, joint = _collision(student_gram), _collision(student_gram * teacher_gram)
    if variant == "difference":
        return own - joint
    return own.clamp_min(1e-12).log2() - joint.clamp_min(1e-12).log2()


def _collision(kernel: Tensor) -> Tensor:
    """Σ_ij G_ij² of a kernel [B, B] scaled to trace 1 (2^−H of Rényi's entropy of order 2)."""
    return (kernel / kernel.trace().clamp_min(1e-12)).square().sum()


class Information(Objective):
    """ITRD as a loss term, with a trained linear map of the student's features.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
        alpha: α ≥ 1/2; above 1 the features that agree least have more weight.
        correlation: λ_C ≥ 0.
        mutual: λ_M ≥ 0.
        variant: "entropy" or "difference"; see `itrd`.

    Raises:
        ValueError: a setting is out of range, both weights are 0, or there is no such variant.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(
        self,
        tap: str = "embedding",
        alpha: float = 1.5,
        correlation: float = 2.0,
        mutual: float = 1.0,
        variant: str = "entropy",
    ) -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        if alpha < 0.5:
            raise ValueError(f"alpha must be ≥ 0.5, got {alpha!r}")
        for name, value in {"correlation": correlation, "mutual": mutual}.items():
            if value < 0:
                raise ValueError(f"{name} must be ≥ 0, got {value!r}")
        if correlation == mutual == 0:
            raise ValueError(f"correlation or mutual must be > 0, got {correlation!r}, {mutual!r}")
        self.tap, self.alpha, self.variant = tap, alpha, variant
        self.correlation, self.mutual = correlation, mutual
        self.student_taps = self.teacher_taps = (tap,)
        self.embedding: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        widths = [flat(outputs.taps[self.tap]).shape[1] for outputs in (student, teacher)]
        self.embedding = nn.Linear(widths[0], widths[1])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_rows, teacher_rows = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        with full_precision(student_rows):
            student_rows = self.embedding(student_rows)
        weights = (self.alpha, self.correlation, self.mutual)
        return itrd(student_rows, teacher_rows, *weights, self.variant)
