"""Attention transfer: matches the spatial attention maps of student and teacher.

    Q = mean over channels of |F|^p, flattened to [B, H·W] and divided by its L2 norm

    paper:        L = Σ_l (1/B) Σ_i ‖Q_s − Q_t‖₂ / (2·H·W)
    mean_square:  L = Σ_l ⟨(Q_s − Q_t)²⟩ over the batch and positions

Paper: Zagoruyko & Komodakis, "Paying More Attention to Attention: Improving the Performance of
Convolutional Neural Networks via Attention Transfer", ICLR 2017, https://arxiv.org/abs/1612.03928.

Equation 2 of the paper has the plain norm with the factor β/2, and its experiments set β = 10³
divided by the number of positions. That division and the half are part of the term here, so the
weight is 1000. The authors' code squares and averages instead, as do most others:
`variant="mean_square"`.

The distance of unit vectors hardly depends on H·W, so the division makes the term of 8×8 digits 16
times as large as that of the paper's 32×32 images, where beta = 1000 belongs. `smallest_image=32`,
the method's default, weighs the term of smaller images by their share of 32×32 pixels; larger ones
have the paper's division by their own positions. null has it for all.

Reduction: mean over the batch, sum over taps; see the formulas for positions.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.maps import (
    IMAGES_AND_BOXES,
    as_sequence,
    check_maps,
    drop_single_positions,
    resample,
)
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("paper", "mean_square")


def at(
    student_maps: Tensor | Sequence[Tensor],
    teacher_maps: Tensor | Sequence[Tensor],
    power: float = 2.0,
    variant: str = "paper",
) -> Tensor:
    """Distance between spatial attention maps.

    Args:
        student_maps: maps [B, C_s, H, W] of one tap or of several; another resolution than the
            teacher's is resampled to it.
        teacher_maps: the teacher's maps [B, C_t, H', W'].
        power: p > 0, exponent of the activations.
        variant: "paper" for the L2 norm, "mean_square" for the mean of squares.

    Returns:
        Scalar ≥ 0: mean over the batch, sum over taps. For "paper" the norm is divided by twice the
        number of positions.

    Example:
        All attention at the first of four positions, and at the last:

        >>> import torch
        >>> from kd import losses
        >>> first, last = torch.eye(4)[[0, 3]].view(2, 1, 1, 2, 2)
        >>> losses.at(first, last)  # √2 / 8
        tensor(0.1768)

    Reference:
        Zagoruyko & Komodakis 2017, https://arxiv.org/abs/1612.03928
    """
    check_choice("variant", variant, VARIANTS)
    terms = []
    for student, teacher in zip(as_sequence(student_maps), as_sequence(teacher_maps), strict=True):
        student = resample(student, (teacher.shape[2], teacher.shape[3]))
        attention = attention_map(student, power), attention_map(teacher, power)
        terms.append(attention_distance(*attention, variant))
    return torch.stack(terms).sum()


def attention_map(maps: Tensor, power: float = 2.0) -> Tensor:
    """Unit-length attention [B, H·W] of maps [B, C, H, W]; zero for maps that are zero."""
    return F.normalize(upcast(maps).abs().pow(power).mean(1).flatten(1), dim=1)


def attention_distance(student: Tensor, teacher: Tensor, variant: str) -> Tensor:
    """Distance of two attention maps [B, H·W], mean over the batch."""
    difference = student - teacher
    if variant == "mean_square":
        return difference.square().mean()
    return torch.linalg.vector_norm(difference, dim=1).mean() / (2 * difference.shape[1])


class AttentionTransfer(Objective):
    """Attention transfer as a loss term.

    Args:
        taps: canonical names of taps with maps [B, C, H, W] in both nets.
        variant: "paper" or "mean_square"; see `at`.
        power: p > 0, exponent of the activations.
        smallest_image: side of a square of pixels; the term of images with fewer is multiplied by
            their share of it. None: 1 for all.

    Raises:
        ValueError: `taps` is empty, `power` or `smallest_image` is out of range, or there is no
            such variant.
    """

    family = "feature"
    tokens_as_maps = True
    tasks = IMAGES_AND_BOXES

    def __init__(
        self,
        taps: Sequence[str],
        variant: str = "paper",
        power: float = 2.0,
        smallest_image: int | None = None,
    ) -> None:
        super().__init__()
        self.pair(taps)
        check_choice("variant", variant, VARIANTS)
        if power <= 0:
            raise ValueError(f"power must be > 0, got {power!r}")
        self.variant = variant
        if smallest_image is not None and smallest_image < 1:
            raise ValueError(f"smallest_image must be ≥ 1 or null, got {smallest_image!r}")
        self.power = power
        self.smallest_image = smallest_image
        self.scale = 1.0

    def select_taps(self, teacher: Outputs) -> None:
        drop_single_positions("attention transfer", self, teacher)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("attention transfer", self.student_taps, student, teacher)
        drop_single_positions("attention transfer", self, teacher, student)
        if self.smallest_image is not None and setting.image_size is not None:
            height, width = setting.image_size
            self.scale = min(height * width / self.smallest_image**2, 1.0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_maps = [student.taps[tap] for tap in self.student_taps]
        teacher_maps = [teacher.taps[tap] for tap in self.student_taps]
        return self.scale * at(student_maps, teacher_maps, self.power, self.variant)
