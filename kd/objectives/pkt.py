"""Probabilistic knowledge transfer: matches the neighbourhood probabilities of embeddings.

    L = (1/B) Σ_i Σ_j p_t(j|i) · log(p_t(j|i) / p_s(j|i))
    p(j|i) = k(f_i, f_j) / Σ_m k(f_i, f_m),   k(x, y) = (cos(x, y) + 1) / 2

    paper:      j and m run over the other images of the batch
    with_self:  j and m include image i itself, which takes the largest part of each row

Paper: Passalis & Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer",
ECCV 2018, https://arxiv.org/abs/1803.10837.

Reduction: sum over j, mean over the batch. The paper sums over all images. The authors' code and
most others include the image itself and average over all B² entries, so their weight depends on the
batch size: 30 000 there is 30 000 / B here, 470 at B = 64.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram, off_diagonal
from kd.types import Batch, Outputs

VARIANTS = ("paper", "with_self")


def pkt(student_embedding: Tensor, teacher_embedding: Tensor, variant: str = "paper") -> Tensor:
    """Divergence of neighbourhoods.

    Args:
        student_embedding: features [B, …], flattened to [B, D_s].
        teacher_embedding: features [B, …], flattened to [B, D_t].
        variant: `paper`, or `with_self`, in which an image is its own neighbour.

    Returns:
        Scalar ≥ 0: sum over neighbours, mean over the batch.

    Raises:
        UserError: fewer than 3 images, or than 2 with `with_self`.
        ValueError: `variant` is unknown.

    Example:
        Rotating and scaling the features of one net changes nothing:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> rotated = teacher @ torch.tensor([[0.0, -3.0], [3.0, 0.0]])
        >>> abs(losses.pkt(rotated, teacher).item()) < 1e-6
        True

    Reference:
        Passalis & Tefas 2018, https://arxiv.org/abs/1803.10837
    """
    check_choice("variant", variant, VARIANTS)
    student, teacher = flat(student_embedding), flat(teacher_embedding)
    # With two images and no self-pairs every row is the single entry 1.
    check_images(student, 3 if variant == "paper" else 2, "probabilistic transfer")
    log_student, log_teacher = (log_neighbours(rows, variant) for rows in (student, teacher))
    return F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")


def log_neighbours(rows: Tensor, variant: str = "paper") -> Tensor:
    """log p(j|i) of rows [B, D]: [B, B − 1] for `paper`, [B, B] for `with_self`."""
    # Opposite vectors have k = 0; the floor of 1e-7 keeps their logarithm finite.
    kernel = ((gram(F.normalize(rows, dim=1)) + 1) / 2).clamp_min(1e-7)
    if variant == "paper":
        kernel = off_diagonal(kernel)
    return kernel.log() - kernel.sum(1, keepdim=True).log()


class ProbabilisticTransfer(Objective):
    """Probabilistic knowledge transfer as a loss term.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
        variant: `paper` or `with_self`, see `pkt`.

    Raises:
        ValueError: `variant` is unknown.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(self, tap: str = "embedding", variant: str = "paper") -> None:
        super().__init__()
        check_choice("variant", variant, VARIANTS)
        self.tap, self.variant = tap, variant
        self.student_taps = self.teacher_taps = (tap,)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return pkt(student.taps[self.tap], teacher.taps[self.tap], self.variant)
