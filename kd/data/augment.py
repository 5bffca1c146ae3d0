"""Augmentations that no finite set of views holds: torchvision's, on whole batches.

What they show never comes again, so a teacher has to look at it live.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


class Augmentation(ABC):
    """A random change of a batch, drawn from torch's global random state.

    Attributes:
        mixes: images are mixed, and labels become class probabilities [B, K].
    """

    mixes: ClassVar[bool] = False
    num_classes: int = 0  # K, set by the data module

    @abstractmethod
    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Change images uint8 [B, C, H, W] and labels [B] -> images, uint8 or float, and labels."""

    def seeded(self, seed: int, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same as a pure function of the seed, leaving the global random state alone."""
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed(seed)
            return self(images, target)


@dataclass
class MixUp(Augmentation):
    """Each image blended with another, and so its label (Zhang et al. 2018).

    Args:
        alpha: the share is drawn from Beta(alpha, alpha), one for a batch.
    """

    alpha: float = 1.0
    mixes = True

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import v2

        return v2.MixUp(alpha=self.alpha, num_classes=self.num_classes)(images.float(), target)


@dataclass
class CutMix(Augmentation):
    """A rectangle of each image taken from another, and its label by area (Yun et al. 2019).

    Args:
        alpha: the area's share is drawn from Beta(alpha, alpha), one for a batch.
    """

    alpha: float = 1.0
    mixes = True

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import v2

        return v2.CutMix(alpha=self.alpha, num_classes=self.num_classes)(images, target)


@dataclass
class RandAugment(Augmentation):
    """Random operations of a fixed strength (Cubuk et al. 2020).

    Args:
        num_ops: operations in a row.
        magnitude: their strength, 0 … 30.
        group: so many images share one draw; 1 draws for each, and is the slowest.
    """

    num_ops: int = 2
    magnitude: int = 9
    group: int = 8

    def __post_init__(self) -> None:
        bounds = {"num_ops": (1, 16), "magnitude": (0, 30), "group": (1, 2**31)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in {low} … {high}, got {getattr(self, name)!r}")

    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import v2

        change = v2.RandAugment(num_ops=self.num_ops, magnitude=self.magnitude)
        return torch.cat([change(part) for part in images.split(self.group)]), target


def _check_alpha(alpha: float) -> None:
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, got {alpha!r}")
