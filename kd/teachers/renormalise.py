"""Conversion of the student's normalised images to those that a teacher was trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Normalisation = tuple[Sequence[float], Sequence[float]]


class Renormalise(nn.Module):
    """x · (std / std') + (mean − mean') / std', per channel and in float32.

    Args:
        given: mean and std of the images that it gets, per channel on the 0..1 scale [C].
        wanted: mean' and std' of the images that it returns.

    Example:
        >>> renormalise = Renormalise(given=([0.5], [0.5]), wanted=([0.0], [1.0]))
        >>> renormalise(torch.tensor([[[[-1.0, 1.0]]]])).tolist()  # 0 and 1 on the 0..1 scale
        [[[[0.0, 1.0]]]]
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, given: Normalisation, wanted: Normalisation) -> None:
        super().__init__()
        self.wanted = tuple(map(tuple, wanted))
        # In float64, and rounded once
        (mean, std), (new_mean, new_std) = (
            [torch.tensor(list(values), dtype=torch.float64) for values in pair]
            for pair in (given, wanted)
        )
        for name, value in {"scale": std / new_std, "shift": (mean - new_mean) / new_std}.items():
            self.register_buffer(name, value.float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] -> images of the same dtype."""
        return (images.float() * self.scale + self.shift).to(images.dtype)
