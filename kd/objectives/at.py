"""Attention transfer: where a net looks, stage by stage.

    Q = mean over channels of |F|^p, flattened to [B, H·W] and divided by its L2 norm

    paper:        L = Σ_l (1/B) Σ_i ‖Q_s − Q_t‖₂ / (2·H·W)
    mean_square:  L = Σ_l ⟨(Q_s − Q_t)²⟩ over batch and positions

Zagoruyko & Komodakis, "Paying More Attention to Attention", 2017. Equation 2 of the paper has the
plain norm with the factor β/2, and its experiments set β = 10³ divided by the number of positions;
that division and the half stand inside the term, so β = 1000 is the weight. The authors' code
squares and averages instead, and so do most others: `variant: mean_square`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import check_maps, resample
from kd.types import Batch, Outputs

VARIANTS = ("paper", "mean_square")


def attention_map(maps: Tensor, power: float = 2.0) -> Tensor:
    """Unit-length attention [B, H·W] of maps [B, C, H, W]; all-zero maps give zeros."""
    return F.normalize(maps.float().abs().pow(power).mean(1).flatten(1), dim=1)


def attention_distance(student: Tensor, teacher: Tensor, variant: str = "paper") -> Tensor:
    """Distance of two attention maps [B, H·W], mean over the batch."""
    difference = student - teacher
    if variant == "mean_square":
        return difference.square().mean()
    return torch.linalg.vector_norm(difference, dim=1).mean() / (2 * difference.shape[1])


class AttentionTransfer(Objective):
    """Sum over the taps of the distance between the nets' attention maps.

    Maps of another resolution are resampled to the teacher's before their attention is taken.

    Args:
        taps: taps with maps [B, C, H, W] in both nets.
        variant: `paper` or `mean_square`.
        power: p, the exponent of the activations.
    """

    family = "feature"

    def __init__(self, taps: Sequence[str], variant: str = "paper", power: float = 2.0) -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: the two nets have no stage in common; name some")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        if power <= 0:
            raise ValueError(f"power must be > 0, got {power!r}")
        self.student_taps = self.teacher_taps = tuple(taps)
        self.variant = variant
        self.power = power

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("attention transfer", self.student_taps, student, teacher)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        distances = [
            self._distance(student.taps[tap], teacher.taps[tap]) for tap in self.student_taps
        ]
        return torch.stack(distances).sum()

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        student = resample(student, (teacher.shape[2], teacher.shape[3]))
        return attention_distance(
            attention_map(student, self.power), attention_map(teacher, self.power), self.variant
        )
