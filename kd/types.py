"""Batches and forward outputs: the two types that every package uses."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """What a loader yields.

    Attributes:
        input: normalised images [B, C, H, W], float32.
        target: class labels [B], int64, or class probabilities [B, K] of mixed images; −1 of images
            whose labels are not used (`data.labels=false`).
        index: position of each sample in the training pool [B], int64; the key of caches and
            memory banks. In validation and test batches, the position in that split's source.
        view: view of each sample [B], int64; 0 where there is no augmentation.
        epoch: epoch that the order and the views are drawn for. A plain int: it is the same for
            the whole batch, and as a tensor every read on a GPU would be a synchronisation.
        second: the same samples in another view each, for methods and modes that compare two; None:
            there is one view.

    Example:
        >>> zeros = torch.zeros(2, dtype=torch.long)
        >>> batch = Batch(torch.rand(2, 3, 8, 8), zeros, torch.arange(2), zeros, epoch=0)
        >>> batch.apply(lambda tensor: tensor[:1]).input.shape
        torch.Size([1, 3, 8, 8])
    """

    input: Tensor
    target: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    view: Tensor
    epoch: int
    second: "Batch | None" = None

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Copy of the batch with all tensors on `device`."""
        return self.apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Copy of the batch with `function` applied to each of its tensors."""
        input, target, index, view = map(function, self[:4])
        second = None if self.second is None else self.second.apply(function)
        return Batch(input, target, index, view, self.epoch, second)

    def both(self) -> "Batch":
        """The first views and behind them the second ones, 2·B rows; itself if it has one view."""
        if self.second is None:
            return self
        pairs = zip(self[:4], self.second[:4], strict=True)
        input, target, index, view = (torch.cat(pair) for pair in pairs)
        return Batch(input, target, index, view, self.epoch)


class Outputs(NamedTuple):
    """Result of one forward pass: logits [B, K] and the tapped tensors by canonical name.

    Example:
        >>> Outputs(torch.zeros(2, 10), {"stage1": torch.zeros(2, 16, 8, 8)}).taps.keys()
        dict_keys(['stage1'])
    """

    logits: Tensor
    taps: dict[str, Tensor]


def joined(first: Outputs, second: Outputs) -> Outputs:
    """Outputs of one net for two batches, the rows of the first before those of the second.

    Example:
        >>> one = Outputs(torch.zeros(2, 10), {"stage1": torch.zeros(2, 16, 8, 8)})
        >>> joined(one, one).taps["stage1"].shape
        torch.Size([4, 16, 8, 8])
    """
    taps = {name: torch.cat([tap, second.taps[name]]) for name, tap in first.taps.items()}
    return Outputs(torch.cat([first.logits, second.logits]), taps)
