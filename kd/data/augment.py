"""Random augmentations of whole batches, from torchvision.

They have no finite set of views, so teacher outputs cannot be cached: the teacher runs on every
batch.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


class Augmentation(ABC):
    """A random change of a batch, drawn from torch's global random state.

    Attributes:
        mixes: whether images are mixed, so that labels become class probabilities [B, K].
        num_classes: K, set by the data module.
    """

    mixes: ClassVar[bool] = False
    num_classes: int = 0

    @abstractmethod
    def __call__(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Change images uint8 [B, C, H, W] and labels [B] -> images, uint8 or float, and labels."""

    def seeded(self, seed: int, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Change a batch as a pure function of the seed; the global random state is restored."""
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            torch.manual_seed(seed)
            return self(images, target)


@dataclass
class MixUp(Augmentation):
    """mixup: convex combinations of pairs of images and of their labels.

    Zhang, Cisse, Dauphin & Lopez-Paz, ICLR 2018, https://arxiv.org/abs/1710.09412.

    Args:
        alpha: the mixing coefficient of a batch is drawn from Beta(alpha, alpha).
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
    """CutMix: a rectangle of each image is replaced by that of another, and labels mix by area.

    Yun et al., ICCV 2019, https://arxiv.org/abs/1905.04899.

    Args:
        alpha: the relative area that is kept, one for a batch, is drawn from Beta(alpha, alpha).
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
    """RandAugment: random operations of a fixed strength.

    Cubuk, Zoph, Shlens & Le, 2020, https://arxiv.org/abs/1909.13719.

    Args:
        num_ops: number of operations applied in sequence.
        magnitude: their strength, 0 … 30.
        group: number of images that share one draw; 1 draws for every image and is the slowest.
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
