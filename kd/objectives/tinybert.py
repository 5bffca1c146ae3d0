"""TinyBERT: matches embeddings, hidden states and attention scores, layer by layer.

    L = Σ_m ⟨(W_m h_s^m − h_t^g(m))²⟩ + Σ_m ⟨(A_s^m − A_t^g(m))²⟩

h^0 are the embeddings, g(m) = m · N / M the teacher's layer of the student's layer m, and A the
scaled products of queries and keys before softmax. Means run over tokens, and pairs of tokens; no
position or pair with padding counts.

Paper: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings of
EMNLP 2020, https://arxiv.org/abs/1909.10351.

The authors' code has one W for all layers, and averages over padding as well: the shorter the texts
of a batch, the smaller the loss. Here each pair has its own W, and none if both nets are equally
wide.

Reduction: mean over widths and heads, then tokens (or pairs of tokens) of a text, then the batch;
sum over the pairs of layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.objectives.tokens import (
    TokenObjective,
    check_heads,
    check_rank,
    mean_over_tokens,
    projector,
    shortened,
    shortened_scores,
)
from kd.types import Batch, Outputs


def tinybert(
    student_hidden: Sequence[Tensor],
    teacher_hidden: Sequence[Tensor],
    student_attention: Sequence[Tensor],
    teacher_attention: Sequence[Tensor],
    mask: Tensor,
) -> Tensor:
    """Squared errors of hidden states and attention scores of chosen layers.

    Args:
        student_hidden: W h_s, each [B, L, D].
        teacher_hidden: each [B, L, D], as many as the student's.
        student_attention: scores before softmax, each [B, H, L, L].
        teacher_attention: each [B, H, L, L], as many as the student's.
        mask: bool [B, L], true at tokens and false at padding.

    Returns:
        Scalar ≥ 0: sum over layers of means over tokens and the batch.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> mask = torch.tensor([[True, False]])
        >>> losses.tinybert([torch.zeros(1, 2, 3)], [torch.full((1, 2, 3), 2.0)], [], [], mask)
        tensor(4.)

    Reference:
        Jiao et al. 2020, https://arxiv.org/abs/1909.10351
    """
    terms = [
        mean_over_tokens((upcast(own) - upcast(other)).square().mean(2), mask)
        for own, other in zip(student_hidden, teacher_hidden, strict=True)
    ]
    both = (mask[:, :, None] & mask[:, None]).flatten(1)
    terms += [
        mean_over_tokens((upcast(own) - upcast(other)).square().mean(1).flatten(1), both)
        for own, other in zip(student_attention, teacher_attention, strict=True)
    ]
    return torch.stack(terms).sum()


class TinyBERT(TokenObjective):
    """TinyBERT's layer-wise distillation as a loss term; see `tinybert`.

    Args:
        hidden: pairs of embeddings and hidden states [B, L, D], each a name for both nets or
            `student:teacher`; other widths go through trained linear maps.
        attention: pairs of attention scores [B, H, L, L]; both nets must have as many heads. Empty:
            attention is not compared.

    Raises:
        ValueError: `hidden` is empty.
    """

    def __init__(self, hidden: Sequence[str], attention: Sequence[str]) -> None:
        super().__init__()
        self.check_pairs([*hidden, *attention] if hidden else [], "layer_1, layer_2, …")
        self._hidden, self._attention = (
            [pair.partition(":")[0] for pair in pairs] for pairs in (hidden, attention)
        )
        self.projectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        super().build(student, teacher, setting)
        for tap in self._hidden:
            own, other = student.taps[tap], teacher.taps[tap]
            check_rank(tap, own, other, 3, "hidden states [B, L, D]")
            self.projectors[tap] = projector(own, other)
        for tap in self._attention:
            check_heads(tap, student.taps[tap], teacher.taps[tap])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        hidden = [self.projectors[tap](student.taps[tap]) for tap in self._hidden]
        attention = [student.taps[tap] for tap in self._attention]
        mask = self.tokens(batch)
        length = mask.shape[1]
        their_hidden = [shortened(teacher.taps[tap], length) for tap in self._hidden]
        their_attention = [shortened_scores(teacher.taps[tap], length) for tap in self._attention]
        return tinybert(hidden, their_hidden, attention, their_attention, mask)
