"""Correlation between images: L = (1/B²) Σ_ij (k(s_i, s_j) − k(t_i, t_j))², k a Gaussian kernel.

    kernel:  k(x, y) = exp(−γ‖x − y‖²) ≈ e^(−2γ) Σ_{p ≤ P} (2γ)^p / p! · ⟨x, y⟩^p, ‖x‖ = ‖y‖ = 1
    mean_difference:  L = 1/(B − 1) Σ_i Σ_d |Δ_i,d| |Δ_i+1,d|,   Δ = r(f_s) − g(f_t)

Peng et al., "Correlation Congruence for Knowledge Distillation", 2019: γ = 0.4 and P = 2. The
series is the kernel's only for unit vectors. The paper embeds both nets' features in 128 dimensions
first; a kernel compares nets of any width as they are, and a teacher's embedding trained by this
very term could fall to a point, so `kernel` has none. What passes for this method in many
comparisons since Tian et al. 2020 multiplies the differences of neighbours in the batch, r and g
trained linear maps to 128 dimensions: `variant: mean_difference`. It depends on the order of the
batch and is no correlation between images.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.pairs import ONE_BATCH, check_images, flat, full_precision, gram
from kd.types import Batch, Outputs

VARIANTS = ("kernel", "mean_difference")


def taylor_kernel(rows: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """The series of exp(−γ‖x − y‖²) up to `order` [B, B], of rows [B, D] brought to length 1."""
    argument = 2 * gamma * gram(F.normalize(rows, dim=1))
    series = argument / order + 1
    for power in range(order - 1, 0, -1):
        series = argument / power * series + 1
    return series * math.exp(-2 * gamma)


def mean_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """|Δ_i|·|Δ_i+1| of rows [B, D], summed over D, mean over neighbours in the batch."""
    difference = (student - teacher).abs()
    return (difference[:-1] * difference[1:]).sum(1).mean()


class CorrelationCongruence(Objective):
    """Squared distance of the nets' kernel matrices.

    Args:
        tap: the tap compared; a map is flattened.
        variant: `kernel` or `mean_difference`.
        gamma: γ > 0 of the kernel.
        order: P ≥ 1 of its series.
        dim: width of the embeddings of `mean_difference`.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(
        self,
        tap: str = "embedding",
        variant: str = "kernel",
        gamma: float = 0.4,
        order: int = 2,
        dim: int = 128,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        if gamma <= 0:
            raise ValueError(f"gamma must be > 0, got {gamma!r}")
        for name, value in {"order": order, "dim": dim}.items():
            if value < 1:
                raise ValueError(f"{name} must be ≥ 1, got {value!r}")
        self.tap, self.variant = tap, variant
        self.gamma, self.order, self.dim = gamma, order, dim
        self.student_taps = self.teacher_taps = (tap,)
        self.student_embedding: nn.Module = nn.Identity()
        self.teacher_embedding: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        if self.variant == "mean_difference":
            widths = [flat(outputs.taps[self.tap]).shape[1] for outputs in (student, teacher)]
            self.student_embedding = nn.Linear(widths[0], self.dim)
            self.teacher_embedding = nn.Linear(widths[1], self.dim)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        check_images(ours, 2, "correlation congruence")
        if self.variant == "mean_difference":
            with full_precision(ours):
                return mean_difference(self.student_embedding(ours), self.teacher_embedding(theirs))
        ours, theirs = (taylor_kernel(rows, self.gamma, self.order) for rows in (ours, theirs))
        return F.mse_loss(ours, theirs)
