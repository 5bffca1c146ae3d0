"""What goes into a net and what one pass leaves: the two words that every part speaks."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """What a loader yields.

    input: normalised images [B, C, H, W], float.
    target: class labels [B], int64.
    index: position of each sample in the data module's training pool [B], int64; caches, memory
        banks and views are keyed by it.
    """

    input: Tensor
    target: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here


class Outputs(NamedTuple):
    """What one forward pass leaves: logits [B, K] and the tapped tensors by canonical name."""

    logits: Tensor
    taps: dict[str, Tensor]
