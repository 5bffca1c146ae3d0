"""Correlation and mutual information of the nets' features: L = λ_C·correlation + λ_M·mutual.

    correlation = log₂ Σ_d |1 − C_d|^(2α),  C_d the correlation over the batch of feature d of
                  r(f_s) with feature d of f_t, r a trained linear map to the teacher's width
    mutual      = H(G_s, G_t) − H(G_s),  Rényi's entropy of order 2: H(G) = −log₂ Σ_ij G_ij²,
                  G the cosines [B, B] of a net's features, jointly their products
                  (G_s)_ij (G_t)_ij, divided by the trace

Miles, López Rodríguez & Mikolajczyk, "Information Theoretic Representation Distillation", 2022:
α = 1.5, λ_C = 2 and λ_M = 1 (0.05 in some code). The mutual information
H(G_s) + H(G_t) − H(G_s, G_t), less the teacher's own entropy, a constant, is −mutual. The authors'
code leaves out both logarithms of that term, which is Σ G_s² − Σ G_st² then and of the order of
1/B: `variant: difference`. Its correlation divides by B after an unbiased deviation, so stays below
1 − 1/B; here it is the usual one, at most 1, and 1e-6 keeps the logarithm and its slope finite.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.pairs import ONE_BATCH, check_images, flat, full_precision, gram
from kd.types import Batch, Outputs

VARIANTS = ("entropy", "difference")


def correlation_term(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """log₂ Σ_d |1 − C_d|^(2α) of features [B, D]; a constant feature has C_d = 0."""
    correlations = (_standard(student) * _standard(teacher)).mean(0)
    return ((1 - correlations).clamp_min(0).pow(2 * alpha).sum() + 1e-6).log2()


def _standard(features: Tensor) -> Tensor:
    centred = features - features.mean(0)
    return centred / centred.square().mean(0).clamp_min(1e-8).sqrt()


def mutual_term(student: Tensor, teacher: Tensor, variant: str = "entropy") -> Tensor:
    """H(G_s, G_t) − H(G_s) of features [B, D_s] and [B, D_t], or without the logarithms."""
    ours, theirs = (gram(F.normalize(rows, dim=1)) for rows in (student, teacher))
    own, joint = _collision(ours), _collision(ours * theirs)
    if variant == "difference":
        return own - joint
    return own.clamp_min(1e-12).log2() - joint.clamp_min(1e-12).log2()


def _collision(kernel: Tensor) -> Tensor:
    """Σ_ij G_ij² of a kernel [B, B] brought to trace 1."""
    return (kernel / kernel.trace().clamp_min(1e-12)).square().sum()


class Information(Objective):
    """Correlation and mutual information between the student's embedded features and the teacher's.

    Args:
        tap: the tap compared; a map is flattened.
        alpha: α ≥ 1/2, above 1 to care more for features that agree least.
        correlation: λ_C ≥ 0.
        mutual: λ_M ≥ 0.
        variant: `entropy` or `difference`, of the mutual term.
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
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
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
        ours, theirs = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        check_images(ours, 2, "information-theoretic distillation")
        with full_precision(ours):
            ours = self.embedding(ours)
        correlation = correlation_term(ours, theirs, self.alpha)
        return self.correlation * correlation + self.mutual * mutual_term(
            ours, theirs, self.variant
        )
