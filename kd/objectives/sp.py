"""Similarity-preserving KD: matches the pairwise similarities of a batch's activations.

    L = (1/B²) · ‖G_s − G_t‖²_F,    G[i, :] = ⟨f_i, f_·⟩ / ‖⟨f_i, f_·⟩‖₂

f_i [D] is the flattened map (or vector) of image i; G [B, B] has rows of unit L2 norm.

Paper: Tung & Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
https://arxiv.org/abs/1907.09682.

Only B×B matrices are compared, so the nets may differ in width and resolution, and rotating the
features of one net changes nothing.

Reduction: sum over all B² entries divided by B², in the paper as in public code. Entries of unit
rows shrink like 1/√B, so the term shrinks with the batch; the usual weight of 3000 is for B = 64.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram
from kd.types import Batch, Outputs


def sp(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Distance of similarity matrices.

    Args:
        student_map: activations [B, …], flattened to [B, D_s].
        teacher_map: activations [B, …], flattened to [B, D_t].

    Returns:
        Scalar ≥ 0: mean over the B² pairs.

    Raises:
        UserError: fewer than 2 images.

    Example:
        Two orthogonal images against two equal ones: the rows (1, 0) and (0, 1) against (√½, √½).

        >>> import torch
        >>> from kd import losses
        >>> loss = losses.sp(torch.eye(2), torch.ones(2, 2))
        >>> round(loss.item(), 4)  # ((1 − √½)² + √½²) / 2
        0.2929

    Reference:
        Tung & Mori 2019, https://arxiv.org/abs/1907.09682
    """
    student, teacher = flat(student_map), flat(teacher_map)
    check_images(student, 2, "similarity-preserving distillation")
    # normalize leaves a row of zeros at 0: an image without activations is similar to none.
    g_s, g_t = (F.normalize(gram(rows), dim=1) for rows in (student, teacher))
    return F.mse_loss(g_s, g_t)


class Similarity(Objective):
    """Similarity-preserving KD as a loss term.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(self, tap: str) -> None:
        super().__init__()
        self.pair((tap,))
        (self.tap,) = self.student_taps

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return sp(student.taps[self.tap], teacher.taps[self.tap])
