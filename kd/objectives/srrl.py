"""The student's embedding, seen by the teacher's classifier.

    L = α·⟨(r(f_s) − f_t)²⟩ + β·⟨(h_t(r(f_s)) − z_t)²⟩

f is the embedding, r a trained linear map where the widths differ, h_t the teacher's head, frozen,
and z_t the teacher's logits. ⟨·⟩ is the mean over the batch and the dimensions or classes.

Yang, Martinez, Bulat & Tzimiropoulos, "Knowledge Distillation via Softmax Regression Representation
Learning", 2021. The paper derives the second term as a cross-entropy of probabilities, finds the L2
distance of logits better, and uses that; `variant: soft` is the cross-entropy
−(1/B) Σ_i Σ_k p_t[i, k] log softmax(h_t(r(f_s)))[i, k], p_t = softmax(z_t). The authors' code and
most others have a 1×1 convolution with batch norm and ReLU on the last map in r's place; the linear
map on its average is the same convolution without these, and serves nets that have no map.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.heads import frozen_head
from kd.types import Batch, Outputs

VARIANTS = ("paper", "soft")


def regression(student: Tensor, teacher: Tensor, variant: str = "paper") -> Tensor:
    """Distance of logits [B, K] that one head made: mean square, or cross-entropy for `soft`."""
    if variant == "soft":
        return F.cross_entropy(student, F.softmax(teacher, dim=1))
    return F.mse_loss(student, teacher)


class SoftmaxRegression(Objective):
    """Match the teacher's embedding, and what the teacher's frozen head makes of the student's.

    Args:
        matching: α ≥ 0.
        regression: β ≥ 0.
        variant: `paper` or `soft`.
    """

    family = "feature"
    copies_head = True
    student_taps = teacher_taps = ("embedding",)

    def __init__(
        self, matching: float = 1.0, regression: float = 1.0, variant: str = "paper"
    ) -> None:
        super().__init__()
        if matching < 0 or regression < 0 or matching + regression == 0:
            raise ValueError(
                f"matching and regression must be ≥ 0 and not both 0, got {matching!r} and "
                f"{regression!r}"
            )
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        self.matching, self.regression, self.variant = matching, regression, variant
        self.connector: nn.Module = nn.Identity()
        self.head: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = student.taps["embedding"], teacher.taps["embedding"]
        if ours.dim() != 2 or theirs.dim() != 2:
            raise UserError(
                f"srrl needs vectors [B, D] at tap 'embedding'; the student has "
                f"{list(ours.shape)}, the teacher {list(theirs.shape)}"
            )
        if ours.shape[1] != theirs.shape[1]:
            self.connector = nn.Linear(ours.shape[1], theirs.shape[1])
        self.head = frozen_head(setting.teacher_head, theirs, teacher.logits, "tap 'embedding'")

    def train(self, mode: bool = True) -> Self:
        """Keep the teacher's head in eval mode."""
        super().train(mode)
        self.head.eval()
        return self

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        theirs = teacher.taps["embedding"].float()
        with torch.autocast(theirs.device.type, enabled=False):
            ours = self.connector(student.taps["embedding"].float())
            answer = self.head(ours)
        matched = F.mse_loss(ours, theirs)
        regressed = regression(answer, teacher.logits.float(), self.variant)
        return self.matching * matched + self.regression * regressed
