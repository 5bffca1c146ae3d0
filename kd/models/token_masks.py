"""Masks of padded token sequences, and what is computed under them."""

import torch
from torch import Tensor


def token_mask(ids: Tensor, pad_index: int) -> Tensor:
    """Return which positions [B, L] hold tokens and not padding, as bool.

    Example:
        >>> token_mask(torch.tensor([[5, 7, 0]]), pad_index=0)
        tensor([[ True,  True, False]])
    """
    return ids != pad_index


def masked_max(features: Tensor, mask: Tensor) -> Tensor:
    """Return the largest value at any token [B, D]; 0 where a row has no token.

    Args:
        features: [B, L, D].
        mask: bool [B, L].
    """
    lowest = torch.finfo(features.dtype).min
    largest = features.masked_fill(~mask[..., None], lowest).amax(1)
    return largest.masked_fill(~mask.any(1, keepdim=True), 0.0)


def masked_mean(features: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens [B, D]; 0 where a row has none.

    Args:
        features: [B, L, D].
        mask: bool [B, L].

    Example:
        >>> rows = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> masked_mean(rows, torch.tensor([[True, True, False]]))
        tensor([[2.]])
    """
    # Not a product with the mask: padding may hold anything, and inf · 0 is NaN.
    total = features.masked_fill(~mask[..., None], 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp_min(1).to(features.dtype)
