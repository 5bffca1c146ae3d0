"""Attention of transformers' encoders with places for taps."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.hf_config import transformers

NAME = "kd_taps"


def with_taps() -> str:
    """Make attention with taps known to transformers; return its name for attn_implementation."""
    library = transformers()
    from transformers.masking_utils import eager_mask

    library.AttentionInterface.register(NAME, _attention)
    library.AttentionMaskInterface.register(NAME, eager_mask)
    return NAME


def tap_attention(layer: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    """Add the places for scores and values to a layer's attention and return them.

    None if the layer has no self-attention.
    """
    for module in layer.modules():
        if type(module).__name__.endswith("SelfAttention"):
            module.scores, module.values = nn.Identity(), nn.Identity()
            return module.scores, module.values
    return None


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention of [B, H, L, d], as transformers' models call it.

    Args:
        module: the attention; `scores` and `values` are its places for taps.
        query, key, value: [B, H, L, d].
        attention_mask: added to the scores, [B, 1, L, L].
        dropout: rate of the probabilities.
        scaling: factor of the scores; None: 1/√d.

    Returns:
        Output [B, L, H, d] and probabilities [B, H, L, L].
    """
    scaling = key.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(2, 3) * scaling
    if isinstance(module.scores, nn.Module) and isinstance(module.values, nn.Module):
        scores, value = module.scores(scores), module.values(value)
    if attention_mask is not None:
        scores = scores + attention_mask
    probabilities = F.softmax(scores, -1, dtype=scores.dtype)
    dropped = F.dropout(probabilities, dropout, module.training)
    return (dropped @ value).transpose(1, 2).contiguous(), probabilities
