"""Similarities between the images of a batch: L = (1/B²) ‖G_s − G_t‖²_F.

    G[i, :] = ⟨f_i, f_·⟩ / ‖⟨f_i, f_·⟩‖₂,   f_i [D] the flattened map (or vector) of image i

Tung & Mori, "Similarity-Preserving Knowledge Distillation", 2019. The nets' widths and resolutions
need not agree: only B×B matrices are compared, and a common rotation of a net's features changes
nothing. The sum over all B² entries is divided by B² as in the paper and in public code alike; the
entries of unit rows shrink like 1/√B, so the term itself shrinks with the batch, and the usual
weight belongs to B = 64.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram
from kd.types import Batch, Outputs


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
    one_device = ONE_BATCH

    def __init__(self, tap: str) -> None:
        super().__init__()
        self.tap = tap
        self.student_taps = self.teacher_taps = (tap,)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        check_images(ours, 2, "similarity-preserving distillation")
        return similarity_distance(ours, theirs)
