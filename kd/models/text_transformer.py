"""Transformer encoder for text with taps inside its attention.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, https://arxiv.org/abs/1706.03762, with
the sizes and the classification by the first token of small BERTs: Turc, Chang, Lee & Toutanova,
"Well-Read Students Learn Better", 2019, https://arxiv.org/abs/1908.08962. The layers normalise
their input and not their sum (Xiong et al. 2020, https://arxiv.org/abs/2002.04745), with which a
net that starts from random numbers trains without a long warm-up.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.models.masked_words import MaskedWords
from kd.models.sizing import check_counts
from kd.models.token_masks import masked_mean, token_mask

POOLINGS = ("cls", "mean")


class Embeddings(nn.Module):
    """Sum of token and position embeddings: [B, L] -> [B, L, D]."""

    def __init__(self, vocab_size: int, max_length: int, pad_index: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim, padding_idx=pad_index)
        self.positions = nn.Parameter(torch.zeros(max_length, dim))
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.02)
        with torch.no_grad():
            self.tokens.weight[pad_index].zero_()

    def forward(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > len(self.positions):
            raise UserError(
                f"a text of {ids.shape[1]} tokens is longer than the net's {len(self.positions)} "
                "positions; lower data.max_length"
            )
        return self.tokens(ids) + self.positions[: ids.shape[1]]


class Attention(nn.Module):
    """Multi-head self-attention: [B, L, D] -> [B, L, D].

    `scores` and `values` return their input; they are places for taps: the scaled products
    [B, H, L, L] of queries and keys before the mask, and the values [B, H, L, D / H].
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.Linear(dim, 3 * dim)
        self.scores, self.values = nn.Identity(), nn.Identity()
        self.output = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        split = self.projections(hidden).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = self.scores(query @ key.transpose(2, 3) * key.shape[3] ** -0.5)
        # The lowest number and not -inf: a row without a token would be NaN.
        hidden_keys = ~mask[:, None, None]
        scores = scores.masked_fill(hidden_keys, torch.finfo(scores.dtype).min)
        mixed = F.softmax(scores, 3) @ self.values(value)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and two linear layers, each added to its input: [B, L, D] -> [B, L, D]."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.inner = nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        hidden = hidden + self.dropout(self.attention(self.norm1(hidden), mask))
        return hidden + self.dropout(self.inner(self.norm2(hidden)))


class TextTransformer(nn.Module):
    """A small encoder and a classifier: token ids [B, L] -> logits [B, K].

    Args:
        vocab_size: number of tokens V.
        max_length: largest L.
        pad_index: token of the padding.
        num_classes: K.
        dim: width D.
        depth: number of layers.
        heads: H, of each layer.
        inner: units of the two linear layers' middle; None: 4 · dim.
        dropout: rate, which training uses.
        pooling: `cls`: the first token stands for the text; `mean`: the mean of all tokens.
        mask_index: token of hidden words, which gives the net a head that names them, and the tap
            `masked_words` (see `kd.models.masked_words`); None: it has no such head.

    Raises:
        ValueError: `dim` is no multiple of `heads`, or a setting is out of range.

    Example:
        >>> net = TextTransformer(vocab_size=100, max_length=16, pad_index=0, num_classes=4)
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
        depth: int = 4,
        heads: int = 4,
        inner: int | None = None,
        dropout: float = 0.1,
        pooling: str = "mean",
        mask_index: int | None = None,
    ) -> None:
        super().__init__()
        check_counts(dim=dim, depth=depth, heads=heads, inner=inner)
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim!r}, heads={heads!r}")
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {list(POOLINGS)}, got {pooling!r}")
        self.pad_index, self.pooling = pad_index, pooling
        self.embeddings = Embeddings(vocab_size, max_length, pad_index, dim)
        self.dropout = nn.Dropout(dropout)
        sizes = (dim, heads, inner or 4 * dim, dropout)
        self.layers = nn.ModuleList(Layer(*sizes) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.masked_words = None if mask_index is None else MaskedWords(dim, mask_index, vocab_size)
        self.pooled = nn.Identity()
        self.fc = nn.Linear(dim, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        mask = token_mask(ids, self.pad_index)
        if self.masked_words is not None:  # first, so that taps are of the whole text
            self.masked_words(self._hidden, ids, mask, self.embeddings.tokens.weight)
        hidden = self._hidden(ids)
        pooled = hidden[:, 0] if self.pooling == "cls" else masked_mean(hidden, mask)
        return self.fc(self.dropout(self.pooled(pooled)))

    def _hidden(self, ids: Tensor) -> Tensor:
        """Hidden states of the last layer [B, L, D]."""
        mask = token_mask(ids, self.pad_index)
        hidden = self.dropout(self.embeddings(ids))
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return self.norm(hidden)
