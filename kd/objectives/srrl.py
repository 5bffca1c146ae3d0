"""Softmax regression representation learning (SRRL): matches embeddings under the teacher's head.

    L = α·⟨(r(f_s) − f_t)²⟩ + β·⟨(h_t(r(f_s)) − z_t)²⟩

f is the embedding, r a trained linear map where the widths differ, h_t the teacher's frozen head
and z_t the teacher's logits.

Paper: Yang, Martinez, Bulat & Tzimiropoulos, "Knowledge Distillation via Softmax Regression
Representation Learning", ICLR 2021, https://openreview.net/forum?id=ZzwDy_wiWv.

The paper derives the second term as a cross-entropy of probabilities, finds the L2 distance of
logits better and uses that; `variant="soft"` is the cross-entropy
−(1/B) Σ_i Σ_k p_t[i, k] · log softmax(h_t(r(f_s)))[i, k] with p_t = softmax(z_t). In place of r the
authors' code and most others have a 1×1 convolution with batch norm and ReLU on the last map; the
linear map of the average is that convolution without batch norm and ReLU, and it serves nets that
have no map.

Reduction: ⟨·⟩ is the mean over the batch and the dimensions or classes.
"""

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.heads import frozen_head
from kd.objectives.pairs import full_precision
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("paper", "soft")


def srrl(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    matching: float = 1.0,
    regression: float = 1.0,
    variant: str = "paper",
) -> Tensor:
    """Feature matching and softmax regression.

    Args:
        student_embedding: embeddings [B, D] of the student, mapped to the teacher's width.
        teacher_embedding: embeddings [B, D] of the teacher.
        student_logits: logits [B, K] of the teacher's head on `student_embedding`.
        teacher_logits: the teacher's logits [B, K].
        matching: α ≥ 0, weight of the embeddings' distance.
        regression: β ≥ 0, weight of the logits' distance.
        variant: `paper` for the squared distance of logits, `soft` for the cross-entropy.

    Returns:
        Scalar ≥ 0: mean over the batch and the dimensions or, for `paper`, the classes.

    Raises:
        ValueError: `variant` is unknown.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.zeros(1, 2), torch.ones(1, 2)
        >>> head = torch.nn.Linear(2, 3).requires_grad_(False)
        >>> _ = head.weight.fill_(1.0)
        >>> losses.srrl(student, teacher, head(student), head(teacher)).item()  # 1² + 2²
        5.0

    Reference:
        Yang et al., ICLR 2021, https://openreview.net/forum?id=ZzwDy_wiWv
    """
    check_choice("variant", variant, VARIANTS)
    matched = F.mse_loss(upcast(student_embedding), upcast(teacher_embedding))
    student_logits, teacher_logits = upcast(student_logits), upcast(teacher_logits)
    if variant == "soft":
        regressed = F.cross_entropy(student_logits, F.softmax(teacher_logits, dim=1))
    else:
        regressed = F.mse_loss(student_logits, teacher_logits)
    return matching * matched + regression * regressed


class SoftmaxRegression(Objective):
    """SRRL as a loss term, with a trained linear map and a frozen copy of the teacher's head.

    Args:
        matching: α ≥ 0, weight of the embeddings' distance.
        regression: β ≥ 0, weight of the logits' distance.
        variant: `paper` or `soft`, see `srrl`.

    Raises:
        ValueError: a weight is negative, both are 0, or `variant` is unknown.
    """

    family = "feature"
    reads_logits = True
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
        check_choice("variant", variant, VARIANTS)
        self.matching, self.regression, self.variant = matching, regression, variant
        self.connector: nn.Module = nn.Identity()
        self.head: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        student_embedding, teacher_embedding = student.taps["embedding"], teacher.taps["embedding"]
        if student_embedding.dim() != 2 or teacher_embedding.dim() != 2:
            raise UserError(
                f"srrl needs vectors [B, D] at tap 'embedding'; the student has "
                f"{list(student_embedding.shape)}, the teacher {list(teacher_embedding.shape)}"
            )
        if student_embedding.shape[1] != teacher_embedding.shape[1]:
            self.connector = nn.Linear(student_embedding.shape[1], teacher_embedding.shape[1])
        self.head = frozen_head(
            setting.teacher_head, teacher_embedding, teacher.logits, "tap 'embedding'"
        )

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the connector; the teacher's head stays in evaluation mode."""
        super().train(mode)
        self.head.eval()
        return self

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        teacher_embedding = teacher.taps["embedding"].float()
        # The teacher's logits are float32, so its head must compute in float32 as well.
        with full_precision(teacher_embedding):
            student_embedding = self.connector(student.taps["embedding"].float())
            logits = self.head(student_embedding)
        weights = self.matching, self.regression
        return srrl(
            student_embedding,
            teacher_embedding,
            logits,
            teacher.logits.float(),
            *weights,
            self.variant,
        )
