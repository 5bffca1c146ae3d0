"""MiniLM: matches the attention and the relations of the values in the last layer.

    L = (1/B) Σ_i (1 / H|x_i|) Σ_h Σ_j [KL(a_t[h, j] ‖ a_s[h, j]) + KL(v_t[h, j] ‖ v_s[h, j])]

a[h, j] is the distribution of head h's attention at token j of text i, softmax(q_j · k / √d), and v
that of the values' relation, softmax(v_j · v / √d), both over the text's tokens and no padding.

Paper: Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
Pre-Trained Transformers", NeurIPS 2020, https://arxiv.org/abs/2002.10957.

Neither term depends on the width of a head, so no map is trained; the numbers of heads must be
equal.

Reduction: sum over tokens attended to, mean over heads and tokens of a text, then over the batch.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.objectives.tokens import (
    NEVER,
    TokenObjective,
    check_heads,
    mean_over_tokens,
    shortened,
    shortened_scores,
)
from kd.types import Batch, Outputs


def minilm(
    student_scores: Tensor,
    teacher_scores: Tensor,
    student_values: Tensor,
    teacher_values: Tensor,
    mask: Tensor,
) -> Tensor:
    """Divergences of attention and of the values' relation.

    Args:
        student_scores: scaled products of queries and keys before softmax [B, H, L, L].
        teacher_scores: [B, H, L, L].
        student_values: [B, H, L, d_s].
        teacher_values: [B, H, L, d_t].
        mask: bool [B, L], true at tokens and false at padding.

    Returns:
        Scalar ≥ 0: mean over heads and tokens of a text, then over the batch.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> scores, values = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 8)
        >>> mask = torch.ones(2, 5, dtype=torch.bool)
        >>> losses.minilm(scores + 3, scores, values, values, mask).item() < 1e-6
        True

    Reference:
        Wang et al. 2020, https://arxiv.org/abs/2002.10957
    """
    attention = attention_kl(student_scores, teacher_scores, mask)
    relations = relation(student_values), relation(teacher_values)
    return attention + attention_kl(*relations, mask)


def relation(values: Tensor) -> Tensor:
    """Scaled products of the values of each head: [B, H, L, d] -> [B, H, L, L]."""
    values = upcast(values)
    return values @ values.transpose(2, 3) * values.shape[3] ** -0.5


def attention_kl(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """Divergence of two attentions over the tokens of each text.

    Args:
        student_scores: before softmax [B, H, L, L].
        teacher_scores: [B, H, L, L].
        mask: bool [B, L], true at tokens.

    Returns:
        Scalar ≥ 0: mean over heads and tokens of a text, then over the batch.
    """
    student, teacher = (_log_attention(scores, mask) for scores in (student_scores, teacher_scores))
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(3)
    return mean_over_tokens(divergence.mean(1), mask)


def _log_attention(scores: Tensor, mask: Tensor) -> Tensor:
    return F.log_softmax(upcast(scores).masked_fill(~mask[:, None, None], NEVER), 3)


class LastLayer(TokenObjective):
    """MiniLM's two divergences as a loss term.

    Args:
        attention: pair of the last layers' scores [B, H, L, L], `student:teacher` or one name.
        value: pair of the last layers' values [B, H, L, d].

    Raises:
        ValueError: one of them is empty.
    """

    def __init__(self, attention: str, value: str) -> None:
        super().__init__()
        named = bool(attention and value)
        self.check_pairs([attention, value] if named else [], "attention_1 and value_1, …")

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        super().build(student, teacher, setting)
        for tap in self.student_taps:
            check_heads(tap, student.taps[tap], teacher.taps[tap])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        mask = self.tokens(batch)
        scores, values = (student.taps[tap] for tap in self.student_taps)
        their_scores, their_values = (teacher.taps[tap] for tap in self.student_taps)
        their_scores = shortened_scores(their_scores, mask.shape[1])
        their_values = shortened(their_values, mask.shape[1])
        return minilm(scores, their_scores, values, their_values, mask)
