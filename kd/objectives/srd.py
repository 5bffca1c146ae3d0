"""Projected embeddings, standardised over the batch, compared by a softened maximum.

    L = log Σ_i Σ_d |z_s[i, d] − z_t[i, d]|^p,    z_s = BN(P f_s),  z_t = BN(f_t)

The sum runs over the batch and the teacher's dimensions; BN is batch norm on this batch's figures,
without trained scale and shift, and P a trained linear map.

Miles & Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", 2024. The
larger p, the more the worst dimensions count. The logarithm makes the gradient independent of how
many terms the sum has, so its constants are left as they are. The authors' code has p = 4, and
torchdistill's class p = 1 by default.
"""

import torch
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.pairs import ONE_BATCH
from kd.types import Batch, Outputs


def standardise_dimensions(vectors: Tensor) -> Tensor:
    """Bring every dimension of [B, D] to mean 0 and variance 1 over the batch; ε = 1e-4."""
    centred = vectors - vectors.mean(0)
    return centred * (centred.square().mean(0) + 1e-4).rsqrt()


def log_sum(student: Tensor, teacher: Tensor, power: float) -> Tensor:
    """log Σ|z_s − z_t|^p of vectors [B, D], standardised first."""
    difference = standardise_dimensions(student) - standardise_dimensions(teacher)
    # the floor keeps the logarithm finite where both agree
    return difference.abs().pow(power).sum().clamp_min(1e-12).log()


class SimpleRecipe(Objective):
    """The log-sum distance of the nets' standardised embeddings.

    Args:
        tap: a tap with vectors [B, D] or maps [B, C, H, W], which are averaged over positions.
        power: p ≥ 1.
    """

    family = "feature"
    one_device = ONE_BATCH

    def __init__(self, tap: str = "embedding", power: float = 4.0) -> None:
        super().__init__()
        if power < 1:
            raise ValueError(f"power must be ≥ 1, got {power!r}")
        self.tap = tap
        self.student_taps = self.teacher_taps = (tap,)
        self.power = power
        self.projector: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = student.taps[self.tap], teacher.taps[self.tap]
        if ours.dim() not in (2, 4) or theirs.dim() not in (2, 4):
            raise UserError(
                f"srd needs vectors [B, D] or maps [B, C, H, W] at tap {self.tap!r}; the student "
                f"has {list(ours.shape)}, the teacher {list(theirs.shape)}"
            )
        self.projector = nn.Linear(ours.shape[1], theirs.shape[1])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = _vector(student.taps[self.tap]), _vector(teacher.taps[self.tap])
        if len(ours) < 2:
            raise UserError(
                f"srd standardises over the batch and needs at least 2 images a step, got "
                f"{len(ours)}; raise data.batch_size"
            )
        with torch.autocast(ours.device.type, enabled=False):
            return log_sum(self.projector(ours), theirs, self.power)


def _vector(tensor: Tensor) -> Tensor:
    return tensor.float().mean((2, 3)) if tensor.dim() == 4 else tensor.float()
