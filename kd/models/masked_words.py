"""Head of masked language modelling: names words that are hidden from the encoder.

Devlin, Chang, Lee & Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", NAACL 2019, https://arxiv.org/abs/1810.04805: 15 % of the words are hidden. All of
them become the mask token here; the paper leaves a tenth as it is and makes another tenth random.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RATE = 0.15


class MaskedWords(nn.Module):
    """Errors in naming the hidden words of texts; the decoder's weights are the embeddings'.

    The net is run on the texts a second time, in training alone. The number of words hidden in a
    row depends on its length, the shape of the result on the longest row.

    Args:
        dim: width D of the hidden states.
        mask_index: token that stands for a hidden word.
        vocab_size: number of tokens V.

    Raises:
        ValueError: `mask_index` is no token.
    """

    def __init__(self, dim: int, mask_index: int, vocab_size: int) -> None:
        super().__init__()
        if not 0 <= mask_index < vocab_size:
            raise ValueError(f"mask_index must be in 0..{vocab_size - 1}, got {mask_index!r}")
        self.mask_index = mask_index
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))

    def forward(
        self, encode: Callable[[Tensor], Tensor], ids: Tensor, mask: Tensor, words: Tensor
    ) -> Tensor:
        """Compute the negative log-likelihood of each hidden word.

        Args:
            encode: token ids [B, L] -> hidden states [B, L, D].
            ids: tokens [B, L].
            mask: bool [B, L], true at tokens.
            words: embeddings of the tokens [V, D].

        Returns:
            [B, n], n = ⌈0.15 · L⌉; −1 where a row has fewer hidden words, and outside training.
        """
        count = math.ceil(RATE * ids.shape[1])
        nothing = torch.full((len(ids), count), -1.0, device=ids.device)
        if not self.training:
            return nothing
        # The first token stands for the text and is no word.
        eligible = mask & (torch.arange(ids.shape[1], device=ids.device) > 0)
        order = torch.rand(ids.shape, device=ids.device).masked_fill(~eligible, -1.0)
        places = order.topk(count, 1).indices
        quota = torch.ceil(RATE * eligible.sum(1, keepdim=True))
        hidden = torch.arange(count, device=ids.device) < quota
        covered = torch.zeros_like(mask).scatter(1, places, hidden)
        states = encode(ids.masked_fill(covered, self.mask_index))
        chosen = states.gather(1, places[..., None].expand(-1, -1, states.shape[2]))
        logits = (self.transform(chosen) @ words.T).float()
        errors = F.cross_entropy(logits.transpose(1, 2), ids.gather(1, places), reduction="none")
        return torch.where(hidden, errors, nothing)
