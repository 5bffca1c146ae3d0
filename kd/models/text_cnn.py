"""Convolutional net for sentences.

Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014,
https://arxiv.org/abs/1408.5882: filters over three to five words, the largest value of each over
the text, dropout, and one linear layer. The embeddings are trained from random numbers, the paper's
variant "rand".
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.sizing import check_counts, scaled
from kd.models.token_masks import masked_max, token_mask


class TextCNN(nn.Module):
    """Word embeddings, convolutions of several widths, maximum over time: [B, L] -> logits [B, K].

    A filter sees zeros behind the last token, and a window that begins in the padding does not
    count, so that logits do not depend on the length of the padding.

    Args:
        vocab_size: number of tokens V.
        max_length: not needed; any length works.
        pad_index: token of the padding.
        num_classes: K.
        dim: width D of the embeddings.
        filters: number of filters of each width.
        widths: tokens that a filter covers.
        dropout: rate in front of the classifier, which training uses; the paper's is 0.5.
        width: factor of `dim` and `filters`.

    Raises:
        ValueError: `widths` is empty, or a number is below 1.

    Example:
        >>> net = TextCNN(vocab_size=100, max_length=16, pad_index=0, num_classes=4)
        >>> net(torch.ones(2, 7, dtype=torch.int64)).shape
        torch.Size([2, 4])
    """

    task: ClassVar[str] = "text_classification"

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        pad_index: int,
        num_classes: int,
        *,
        dim: int = 64,
        filters: int = 64,
        widths: Sequence[int] = (3, 4, 5),
        dropout: float = 0.3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be numbers ≥ 1, got {list(widths)!r}")
        check_counts(dim=dim, filters=filters)
        dim, filters = scaled(dim, width), scaled(filters, width)
        self.pad_index = pad_index
        self.embeddings = nn.Embedding(vocab_size, dim, padding_idx=pad_index)
        self.convolutions = nn.ModuleList(nn.Conv1d(dim, filters, size) for size in widths)
        self.pooled = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(filters * len(widths), num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        mask = token_mask(ids, self.pad_index)
        words = self.embeddings(ids).masked_fill(~mask[..., None], 0.0).transpose(1, 2)
        found = [masked_max(self._windows(c, words), mask) for c in self.convolutions]
        return self.fc(self.dropout(self.pooled(torch.cat(found, 1))))

    @staticmethod
    def _windows(convolution: nn.Module, words: Tensor) -> Tensor:
        """Activations [B, L, filters] of the windows that begin at each token of [B, D, L]."""
        assert isinstance(convolution, nn.Conv1d)
        behind = convolution.kernel_size[0] - 1
        return F.relu(convolution(F.pad(words, (0, behind)))).transpose(1, 2)
