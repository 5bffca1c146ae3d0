"""Bidirectional LSTM over words.

Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 1997,
https://doi.org/10.1162/neco.1997.9.8.1735; in both directions: Graves & Schmidhuber, 2005,
https://doi.org/10.1016/j.neunet.2005.06.042. Such a net is the student in Tang et al., "Distilling
Task-Specific Knowledge from BERT into Simple Neural Networks", 2019,
https://arxiv.org/abs/1903.12136.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from kd.models.sizing import check_counts, scaled
from kd.models.token_masks import masked_max, token_mask


class BiLSTMLayer(nn.Module):
    """An LSTM from each end of every text: [B, L, D] -> [B, L, 2 · hidden].

    The second reads a text from its last token on, whatever the length of the padding behind it:
    every row is turned round within its own length. Packed sequences do the same, but need the
    lengths on the CPU, which would stop a GPU at every step, and cannot be exported.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(dim, hidden, batch_first=True)
        self.backwards = nn.LSTM(dim, hidden, batch_first=True)

    def forward(self, words: Tensor, turned: Tensor) -> Tensor:
        """Run both directions.

        Args:
            words: [B, L, D].
            turned: positions [B, L] that turn the rows round, and back.
        """
        ahead, _ = self.forwards(words)
        back, _ = self.backwards(_taken(words, turned))
        return torch.cat([ahead, _taken(back, turned)], 2)


class BiLSTM(nn.Module):
    """Word embeddings, LSTM layers in both directions, maximum over time: [B, L] -> logits [B, K].

    Args:
        vocab_size: number of tokens V.
        max_length: not needed; any length works.
        pad_index: token of the padding, which stands behind the text.
        num_classes: K.
        dim: width D of the embeddings.
        hidden: units of each direction.
        layers: number of layers.
        dropout: rate in front of each layer and the classifier, which training uses.
        width: factor of `dim` and `hidden`.

    Raises:
        ValueError: `layers` is below 1.

    Example:
        >>> net = BiLSTM(vocab_size=100, max_length=16, pad_index=0, num_classes=4)
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
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.3,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        check_counts(dim=dim, hidden=hidden, layers=layers)
        dim, hidden = scaled(dim, width), scaled(hidden, width)
        self.pad_index = pad_index
        self.embeddings = nn.Embedding(vocab_size, dim, padding_idx=pad_index)
        inputs = [dim] + [2 * hidden] * (layers - 1)
        self.layers = nn.ModuleList(BiLSTMLayer(size, hidden) for size in inputs)
        self.pooled = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden, num_classes)

    def forward(self, ids: Tensor) -> Tensor:
        mask = token_mask(ids, self.pad_index)
        turned = _turned(mask)
        hidden = self.embeddings(ids)
        for layer in self.layers:
            hidden = layer(self.dropout(hidden), turned)
        return self.fc(self.dropout(self.pooled(masked_max(hidden, mask))))


def _turned(mask: Tensor) -> Tensor:
    """Positions [B, L] in reverse order within each row's length; padding stays where it is."""
    places = torch.arange(mask.shape[1], device=mask.device)[None]
    return torch.where(mask, mask.sum(1, keepdim=True) - 1 - places, places)


def _taken(rows: Tensor, places: Tensor) -> Tensor:
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2]))
