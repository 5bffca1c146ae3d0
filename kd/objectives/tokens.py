"""Base class and functions of objectives on tokens: padding masks, means, checks of taps.

A batch is padded on the right to its longest text; the cached taps of a teacher are padded to the
longest text of all. So a teacher's tap may have more positions than the student's, and the rest is
padding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

# Added to the scores of padding: exp() of it is 0 in float32, and differences of it stay finite.
NEVER = -1e9


def mean_over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of each text, then over the texts.

    Args:
        values: [B, L], of any content at padding.
        mask: bool [B, L], true at tokens.

    Returns:
        Scalar; a text without a token counts as 0.

    Example:
        >>> import torch
        >>> values = torch.tensor([[1.0, 3.0, 99.0], [4.0, 99.0, 99.0]])
        >>> mean_over_tokens(values, torch.tensor([[True, True, False], [True, False, False]]))
        tensor(3.)
    """
    # Not a product with the mask: NaN · 0 is NaN.
    total = torch.where(mask, values, 0.0).sum(1)
    return (total / mask.sum(1).clamp_min(1)).mean()


def shortened(teacher: Tensor, length: int) -> Tensor:
    """Cut a teacher's states [B, L', D] or [B, H, L', d] to the first `length` positions."""
    return teacher[..., :length, :]


def shortened_scores(teacher: Tensor, length: int) -> Tensor:
    """Cut a teacher's attention [B, H, L', L'] to the first `length` positions."""
    return teacher[..., :length, :length]


class TokenObjective(Objective):
    """Base class of objectives that compare tensors at every token of a text."""

    family = "feature"
    tasks = ("text_classification",)

    def __init__(self) -> None:
        super().__init__()
        self.pad_index = 0

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        if setting.pad_index is None:
            raise UserError(
                f"{type(self).__name__} compares the tokens of a text, which these data are not; "
                "data=text has them"
            )
        self.pad_index = setting.pad_index

    def tokens(self, batch: Batch) -> Tensor:
        """Which positions hold tokens, bool [B, L]."""
        return batch.input != self.pad_index

    def check_pairs(self, taps: Sequence[str], what: str) -> None:
        """Set the pairs of taps, see `pair`.

        Raises:
            ValueError: there are none.
        """
        if not taps:
            raise ValueError(
                f"taps is empty: teacher and student have no {what} in common; both need layers of "
                "attention, as transformer_mini, bert_mini and distilbert have them"
            )
        self.pair(taps)


def check_rank(tap: str, student: Tensor, teacher: Tensor, rank: int, shape: str) -> None:
    """Refuse taps that are not of the shape that an objective on tokens needs.

    Raises:
        UserError: one of them has another number of dimensions.
    """
    if student.dim() != rank or teacher.dim() != rank:
        raise UserError(
            f"tap {tap!r} must be {shape}; the student's is {list(student.shape)}, the teacher's "
            f"{list(teacher.shape)}"
        )


def check_heads(tap: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse attention [B, H, …] of different numbers of heads.

    Raises:
        UserError: the numbers differ.
    """
    check_rank(tap, student, teacher, 4, "one value for each head, [B, H, L, …]")
    if student.shape[1] != teacher.shape[1]:
        raise UserError(
            f"tap {tap!r}: the student has {student.shape[1]} heads, the teacher "
            f"{teacher.shape[1]}, and heads are compared one by one; give the student as many: "
            f"student.net.heads={teacher.shape[1]}"
        )


def projector(student: Tensor, teacher: Tensor) -> nn.Module:
    """A trained linear map of the last dimension, or none if the widths are equal."""
    narrow, wide = student.shape[-1], teacher.shape[-1]
    return nn.Identity() if narrow == wide else nn.Linear(narrow, wide, bias=False)
