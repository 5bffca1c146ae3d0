"""DistilBERT: matches the directions of the hidden states at every token.

    L = (1/B) Σ_i (1/|x_i|) Σ_j (1 − cos(h_s[i, j], h_t[i, j]))

over the tokens j of text i, and none of its padding.

Paper: Sanh, Debut, Chaumond & Wolf, "DistilBERT, a distilled version of BERT: smaller, faster,
cheaper and lighter", 2019, https://arxiv.org/abs/1910.01108. The method `distilbert` is its triple
loss: this term, soft targets as cross-entropy, and, where the student has a head for it, masked
language modelling, with the labels beside it.

Reduction: mean over the tokens of a text, then over the batch. The authors' code averages over all
tokens of the batch, so that long texts weigh more.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.objectives.tokens import TokenObjective, mean_over_tokens, projector, shortened
from kd.types import Batch, Outputs


def distilbert(student_hidden: Tensor, teacher_hidden: Tensor, mask: Tensor) -> Tensor:
    """Cosine distance of hidden states at every token.

    Args:
        student_hidden: [B, L, D].
        teacher_hidden: [B, L, D].
        mask: bool [B, L], true at tokens and false at padding.

    Returns:
        Scalar in [0, 2]: mean over the tokens of a text, then over the batch.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.ones(1, 2, 2)
        >>> losses.distilbert(student, -teacher, torch.tensor([[True, False]]))
        tensor(1.7071)

    Reference:
        Sanh et al. 2019, https://arxiv.org/abs/1910.01108
    """
    student, teacher = upcast(student_hidden), upcast(teacher_hidden)
    return mean_over_tokens(1 - F.cosine_similarity(student, teacher, dim=2, eps=1e-8), mask)


class HiddenCosine(TokenObjective):
    """DistilBERT's cosine distance as a loss term, the mean over its pairs of taps.

    Other widths go through a trained linear map; in the paper student and teacher are equally wide.
    A pair of vectors [B, D], as nets without layers of tokens have them, counts as one token.

    Args:
        taps: pairs of hidden states [B, L, D], a name for both nets or `student:teacher`.

    Raises:
        ValueError: there are no taps.
    """

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self.check_pairs(taps, "layer_1, layer_2, … nor embedding")
        self.projectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        super().build(student, teacher, setting)
        for tap in self.student_taps:
            own, other = student.taps[tap], teacher.taps[tap]
            if own.dim() != other.dim() or own.dim() not in (2, 3):
                raise UserError(
                    f"tap {tap!r} must be hidden states [B, L, D] or vectors [B, D] of both nets; "
                    f"the student's is {list(own.shape)}, the teacher's {list(other.shape)}"
                )
            self.projectors[tap] = projector(own, other)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        terms = []
        for tap in self.student_taps:
            own, other = self.projectors[tap](student.taps[tap]), teacher.taps[tap]
            mask = self.tokens(batch)
            if own.dim() == 2:
                own, other, mask = own[:, None], other[:, None], mask.any(1, keepdim=True)
            terms.append(distilbert(own, shortened(other, own.shape[1]), mask))
        return sum(terms[1:], terms[0]) / len(terms)


class MaskedWords(Objective):
    """Masked language modelling: the mean error in naming the hidden words of a batch.

    Args:
        tap: errors of hidden words [B, n], negative where there is none; see
            `kd.models.masked_words`.
    """

    family = "labels"
    tasks = ("text_classification",)
    needs_teacher = False

    def __init__(self, tap: str = "masked_words") -> None:
        super().__init__()
        self.tap = tap
        self.student_taps = (tap,)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        errors = student.taps[self.tap]
        hidden = errors >= 0
        return torch.where(hidden, errors, 0.0).sum() / hidden.sum().clamp_min(1)
