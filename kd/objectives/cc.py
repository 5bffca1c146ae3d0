"""Correlation congruence: matches the kernel matrices of the images of a batch.

    kernel:           L = (1/B²) Σ_ij (k(s_i, s_j) − k(t_i, t_j))²
                      k(x, y) = exp(−γ‖x − y‖²)
                              ≈ e^(−2γ) Σ_{p ≤ P} (2γ)^p / p! · ⟨x, y⟩^p,   ‖x‖ = ‖y‖ = 1
    mean_difference:  L = 1/(B − 1) Σ_i Σ_d |Δ_i,d| |Δ_i+1,d|,   Δ = r(f_s) − g(f_t)

Paper: Peng, Jin, Liu, Zhou, Wu, Liu, Li & Zhang, "Correlation Congruence for Knowledge
Distillation", ICCV 2019, https://arxiv.org/abs/1904.01802: γ = 0.4 and P = 2.

The series equals the kernel for unit vectors only. The paper embeds the features of both nets in
128 dimensions first. A kernel compares nets of any width as they are, and a teacher embedding that
is trained by this very term can collapse to a point, so `kernel` has no embedding. The term that
goes by this name in the CIFAR-100 benchmark of Tian et al. 2020 (https://arxiv.org/abs/1910.10699)
multiplies the differences of neighbours in the batch, with r and g trained linear maps to 128
dimensions: `variant="mean_difference"`. It depends on the order of the batch and is not a
correlation of images.

Reduction: mean over pairs of images; sum over d.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.pairs import ONE_BATCH, check_images, flat, full_precision, gram
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("kernel", "mean_difference")


def cc(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    variant: str = "kernel",
    gamma: float = 0.4,
    order: int = 2,
) -> Tensor:
    """Squared difference of Gaussian kernel matrices.

    Args:
        student_embedding: embeddings [B, …], flattened to [B, D_s].
        teacher_embedding: embeddings [B, …], flattened to [B, D_t]; D_t = D_s for
            "mean_difference".
        variant: "kernel", or "mean_difference" for products of the differences of neighbours in the
            batch.
        gamma: γ > 0 of the kernel.
        order: P ≥ 1, last power of the kernel's Taylor series.

    Returns:
        Scalar ≥ 0: mean over B² pairs of images, or over B − 1 neighbours.

    Raises:
        UserError: fewer than 2 images.

    Example:
        The kernel compares directions; lengths and rotations change nothing:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> losses.cc(7 * teacher.flip(1), teacher).item() < 1e-12
        True

    Reference:
        Peng et al. 2019, https://arxiv.org/abs/1904.01802
    """
    check_choice("variant", variant, VARIANTS)
    student, teacher = flat(student_embedding), flat(teacher_embedding)
    check_images(student, 2, "correlation congruence")
    if variant == "mean_difference":
        return mean_difference(student, teacher)
    return F.mse_loss(taylor_kernel(student, gamma, order), taylor_kernel(teacher, gamma, order))


def taylor_kernel(rows: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Taylor series of exp(−γ‖x − y‖²) up to `order` [B, B], of rows [B, D] scaled to length 1."""
    argument = 2 * gamma * gram(F.normalize(rows, dim=1))
    # Horner's scheme
    series = argument / order + 1
    for power in range(order - 1, 0, -1):
        series = argument / power * series + 1
    return series * math.exp(-2 * gamma)


def mean_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """|Δ_i|·|Δ_i+1| of rows [B, D], summed over D, mean over neighbours in the batch."""
    difference = (student - teacher).abs()
    return (difference[:-1] * difference[1:]).sum(1).mean()


class CorrelationCongruence(Objective):
    """Correlation congruence as a loss term.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
        variant: "kernel" or "mean_difference"; see `cc`.
        gamma: γ > 0 of the kernel.
        order: P ≥ 1, last power of the kernel's Taylor series.
        dim: width ≥ 1 of the trained embeddings of "mean_difference".

    Raises:
        ValueError: a setting is out of range, or there is no such variant.
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
        check_choice("variant", variant, VARIANTS)
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
        student_rows, teacher_rows = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        with full_precision(student_rows):
            student_rows = self.student_embedding(student_rows)
            teacher_rows = self.teacher_embedding(teacher_rows)
        return cc(student_rows, teacher_rows, self.variant, self.gamma, self.order)
