"""Neighbourhoods as probabilities: L = (1/B) Σ_i Σ_j p_t(j|i) log(p_t(j|i) / p_s(j|i)).

    p(j|i) = k(f_i, f_j) / Σ_m k(f_i, f_m),   k(x, y) = (cos(x, y) + 1) / 2

    paper:      j and m run over the other images of the batch
    with_self:  over the image itself, too, which takes a large share of each row

Passalis & Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", 2018. The
paper sums the divergences of all images. The authors' code, and most others, keep the image itself
and average over all B² entries, so that its weight fits one batch size only. Here it is the mean
over the batch: a weight of 30 000 there is 30 000 / B here, 470 at B = 64.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram, off_diagonal
from kd.types import Batch, Outputs

VARIANTS = ("paper", "with_self")


def log_neighbours(rows: Tensor, variant: str = "paper") -> Tensor:
    """log p(j|i) of rows [B, D]: [B, B − 1], or [B, B] with the images themselves."""
    # At least 1e-7, because opposite vectors would be infinitely unlikely
    kernel = ((gram(F.normalize(rows, dim=1)) + 1) / 2).clamp_min(1e-7)
    if variant == "paper":
        kernel = off_diagonal(kernel)
    return kernel.log() - kernel.sum(1, keepdim=True).log()


class ProbabilisticTransfer(Objective):
    """Divergence of the student's neighbourhoods from the teacher's.

    Args:
        tap: the tap compared; a map is flattened.
        variant: `paper` or `with_self`.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(self, tap: str = "embedding", variant: str = "paper") -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        self.tap, self.variant = tap, variant
        self.student_taps = self.teacher_taps = (tap,)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        check_images(ours, 3 if self.variant == "paper" else 2, "probabilistic transfer")
        log_ours, log_theirs = (log_neighbours(rows, self.variant) for rows in (ours, theirs))
        return F.kl_div(log_ours, log_theirs, log_target=True, reduction="batchmean")
