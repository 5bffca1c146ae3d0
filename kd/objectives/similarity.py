"""Similarities between the images of a batch: L = (1/B²) ‖G_s − G_t‖²_F.

    G[i, :] = ⟨f_i, f_·⟩ / ‖⟨f_i, f_·⟩‖₂,   f_i [D] the flattened map (or vector) of image i

Tung & Mori, "Similarity-Preserving Knowledge Distillation", 2019. The nets' widths and resolutions
need not agree: only B×B matrices are compared, and a common rotation of a net's features changes
nothing. The sum over all B² entries is divided by B² as in the paper and in public code alike; the
entries of unit rows shrink like 1/√B, so the term itself shrinks with the batch, and the usual
weight belongs to B = 64.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.trace import Batch, Trace


def flat(tap: Tensor) -> Tensor:
    """The tap as rows [B, D] of float32; a map is flattened."""
    return tap.flatten(1).float()


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which products are float32: bfloat16 has 8 bits, and relations are differences
    of products.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def check_images(rows: Tensor, least: int, what: str) -> None:
    """Refuse a batch of fewer than `least` images.

    Raises:
        UserError: names the size and what is needed.
    """
    if rows.shape[0] < least:
        raise UserError(
            f"{what} compares the images of a batch with each other and needs at least {least} of "
            f"them, got {rows.shape[0]}; use a larger data.batch_size"
        )


def gram(rows: Tensor) -> Tensor:
    """All dot products [B, B] of rows [B, D]."""
    with full_precision(rows):
        return rows @ rows.T


def off_diagonal(matrix: Tensor) -> Tensor:
    """The entries i ≠ j of a square matrix [B, B], as [B, B − 1]."""
    size = matrix.shape[0]
    # Behind the first entry, every (B + 1)-th is on the diagonal.
    return matrix.flatten()[1:].view(size - 1, size + 1)[:, :-1].reshape(size, size - 1)


def similarity_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square difference of the row-normalised Gram matrices of [B, D_s] and [B, D_t]."""
    ours, theirs = (F.normalize(gram(rows), dim=1) for rows in (student, teacher))
    return F.mse_loss(ours, theirs)


class Similarity(Objective):
    """Squared distance of the nets' row-normalised similarity matrices.

    Args:
        tap: the tap compared, with a map or a vector in each net.
    """

    family = "relation"

    def __init__(self, tap: str) -> None:
        super().__init__()
        self.tap = tap
        self.student_taps = self.teacher_taps = (tap,)

    def forward(self, student: Trace, teacher: Trace, batch: Batch) -> Tensor:
        ours, theirs = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        check_images(ours, 2, "similarity-preserving distillation")
        return similarity_distance(ours, theirs)
