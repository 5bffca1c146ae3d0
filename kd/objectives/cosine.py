"""Cosine distance: matches the directions of the embeddings of student and teacher.

    L = (1/B) Σ_i (1 − cos(f_s[i], f_t[i]))

Paper: Sanh, Debut, Chaumond & Wolf, "DistilBERT, a distilled version of BERT: smaller, faster,
cheaper and lighter", 2019, https://arxiv.org/abs/1910.01108, whose term for hidden states this is,
here on embeddings or logits.

Reduction: mean over the batch.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def cosine(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Cosine distance of two vectors per image.

    Args:
        student_embedding: [B, D].
        teacher_embedding: [B, D].

    Returns:
        Scalar in [0, 2]: mean over the batch; a vector of length 0 has the distance 1.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> losses.cosine(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor(1.)

    Reference:
        Sanh et al. 2019, https://arxiv.org/abs/1910.01108
    """
    student, teacher = upcast(student_embedding), upcast(teacher_embedding)
    return (1 - F.cosine_similarity(student, teacher, dim=1, eps=1e-8)).mean()


class Cosine(Objective):
    """Cosine distance as a loss term; other widths go through a trained linear map.

    Args:
        tap: canonical name of a tap with vectors [B, D] in both nets, or "logits".
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
        student_vectors, teacher_vectors = self._vectors(student), self._vectors(teacher)
        if student_vectors.dim() != 2 or teacher_vectors.dim() != 2:
            raise UserError(
                f"cosine needs vectors [B, D] at tap {self.tap!r}; the student has "
                f"{list(student_vectors.shape)}, the teacher {list(teacher_vectors.shape)}; try "
                "'embedding' or 'logits'"
            )
        narrow, wide = student_vectors.shape[1], teacher_vectors.shape[1]
        if narrow != wide:
            self.projector = nn.Linear(narrow, wide, bias=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return cosine(self.projector(self._vectors(student)), self._vectors(teacher))
