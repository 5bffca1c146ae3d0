"""Conversion of uint8 images to the normalised floats that nets take."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """(x / 255 − mean) / std, per channel.

    The one place where pixels become floats: training, evaluation and `kd.load` all use it, so that
    a loaded student receives bit for bit what it was trained on.

    Args:
        mean: mean of each channel on the 0..1 scale [C].
        std: standard deviation of each channel [C].

    Example:
        >>> normalise = Normalise(mean=[0.5], std=[0.25])
        >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).tolist()
        [[[[-2.0, 2.0]]]]
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        mean: Sequence[float] | Tensor,
        std: Sequence[float] | Tensor,
    ) -> None:
        super().__init__()
        # In float64, and rounded once: 255 · mean in float32 would round twice.
        mean, std = (torch.as_tensor(value, dtype=torch.float64) for value in (mean, std))
        for name, value in {"shift": 255 * mean, "scale": 1 / (255 * std)}.items():
            self.register_buffer(name, value.float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] on the 0..255 scale -> float32 [B, C, H, W]."""
        floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        # `to` returns its argument where there is nothing to convert, and that one is the caller's.
        shifted = floats.sub(self.shift) if floats is images else floats.sub_(self.shift)
        return shifted.mul_(self.scale)
