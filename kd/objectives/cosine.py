"""Directions: L = (1/B) Σ_i (1 − cos(f_s[i], f_t[i])).

The hidden-state term of DistilBERT (Sanh et al. 2019), here on embeddings or logits.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.types import Batch, Outputs


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cos of rows [B, D], mean over the batch; rows of length 0 count as orthogonal."""
    return (1 - F.cosine_similarity(student.float(), teacher.float(), dim=1, eps=1e-8)).mean()


class Cosine(Objective):
    """Cosine distance of two vectors a sample; other widths go through a trained linear map.

    Args:
        tap: the tap with vectors [B, D] in both nets, or `logits`.
    """

    family = "feature"

    def __init__(self, tap: str = "embedding") -> None:
        super().__init__()
        self.tap = tap
        self.student_taps = self.teacher_taps = () if tap == "logits" else (tap,)
        self.projector: nn.Module = nn.Identity()

    def _vectors(self, outputs: Outputs) -> Tensor:
        return outputs.logits if self.tap == "logits" else outputs.taps[self.tap]

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = self._vectors(student), self._vectors(teacher)
        if ours.dim() != 2 or theirs.dim() != 2:
            raise UserError(
                f"cosine needs vectors [B, D] at tap {self.tap!r}; the student has "
                f"{list(ours.shape)}, the teacher {list(theirs.shape)}; try 'embedding' or 'logits'"
            )
        if ours.shape[1] != theirs.shape[1]:
            self.projector = nn.Linear(ours.shape[1], theirs.shape[1], bias=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return cosine_distance(self.projector(self._vectors(student)), self._vectors(teacher))
