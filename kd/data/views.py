"""Augmentations as finite spaces of views.

A view is one deterministic version of an image. Views are drawn from (data seed, epoch, index) out
of finitely many, so that the teacher's outputs for (image, view) can be cached and reused in every
epoch, run and sweep job.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from kd.data.counter_rng import hashed

_NO_EPOCHS = (2**32, 2**32 + 1)  # in place of an epoch, for draws that hold for all epochs
_STRIDES = 1 << 20  # strong views chained to crops are up to 10⁸ views


class ViewSpace(ABC):
    """Finitely many deterministic versions of an image, numbered 0 … size - 1.

    Subclasses are frozen dataclasses, so that `repr` names all settings; it is part of cache keys.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of distinct views, at most 2**31."""

    @abstractmethod
    def apply(self, images: Tensor, view: Tensor) -> Tensor:
        """Transform each image to its view.

        Args:
            images: uint8 [B, C, H, W].
            view: int64 [B], in range(size).

        Returns:
            uint8 [B, C, H, W]. It may be strided, and `Identity` returns `images` itself: copy it
            before writing.
        """

    def draw(self, seed: int, epoch: int, index: Tensor) -> Tensor:
        """View ids, uniform over range(size), for samples `index` int64 [B] -> int64 [B].

        A pure function of (seed, epoch, index).
        """
        return (hashed(index, seed, epoch) * self.size) >> 32

    def seen(self, epochs: int) -> float:
        """Expected number of different views of an image in this many epochs."""
        return self.size * (1 - (1 - 1 / self.size) ** epochs)


@dataclass(frozen=True)
class Identity(ViewSpace):
    """No augmentation: one view, the image itself."""

    @property
    def size(self) -> int:
        return 1

    def apply(self, images: Tensor, view: Tensor) -> Tensor:
        return images


@dataclass(frozen=True)
class Shift(ViewSpace):
    """Translation by up to `pixels` in both directions, filled with zeros: (2·pixels + 1)² views.

    View `v` is the window at row v // (2·pixels + 1), column v % (2·pixels + 1) of the image padded
    by `pixels`; for pixels=1 the image itself is view 4.
    """

    pixels: int = 1

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise ValueError(f"pixels must be ≥ 0, got {self.pixels!r}")

    @property
    def size(self) -> int:
        return (2 * self.pixels + 1) ** 2

    def apply(self, images: Tensor, view: Tensor) -> Tensor:
        return crop(images, self.pixels, view)


@dataclass(frozen=True)
class CropFlip(ViewSpace):
    """Horizontal flip or none, then a crop of the zero-padded image: (2·padding + 1)²·2 views.

    View `v` is crop v // 2, numbered as in `Shift`, of the image, flipped if v is odd.
    With padding=4 on 32x32 this is the usual CIFAR augmentation: 162 views.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding must be ≥ 0, got {self.padding!r}")

    @property
    def size(self) -> int:
        return 2 * (2 * self.padding + 1) ** 2

    def apply(self, images: Tensor, view: Tensor) -> Tensor:
        # Choosing rows of both versions has fixed shapes (no sync on a GPU) and copies whole
        # images: 75 us a batch of 128x3x32x32 on one core, torch.where 350 us.
        both = torch.cat([images, images.flip(3)])
        rows = torch.arange(len(view), device=view.device) + (view & 1) * len(view)
        return crop(both.index_select(0, rows), self.padding, view >> 1)


@dataclass(frozen=True)
class Limited(ViewSpace):
    """`count` different views of each image, drawn once for a seed and used in turn.

    They are the first `count` of a progression b, b + a, b + 2a … modulo the size, with b and a
    (coprime to the size) drawn for every image: all different, each of them uniform. They keep the
    ids they have in `space`.
    """

    space: ViewSpace
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.space.size:
            raise ValueError(
                f"views must be in 1 … {self.space.size} with {self.space}, got {self.count!r}"
            )

    @property
    def size(self) -> int:
        return self.space.size

    def apply(self, images: Tensor, view: Tensor) -> Tensor:
        return self.space.apply(images, view)

    def draw(self, seed: int, epoch: int, index: Tensor) -> Tensor:
        strides = _coprime(self.size).to(index.device)
        first, stride = (hashed(index, seed, key) for key in _NO_EPOCHS)
        stride = strides[(stride * len(strides)) >> 32]
        return (((first * self.size) >> 32) + epoch % self.count * stride) % self.size

    def seen(self, epochs: int) -> float:
        return min(self.count, epochs)


@lru_cache(maxsize=8)
def _coprime(size: int) -> Tensor:
    """Return the numbers that are coprime to a size, up to it and to 2²⁰ -> int64 [n]."""
    numbers = torch.arange(1, min(size, _STRIDES) + 1)
    return numbers[torch.gcd(numbers, torch.tensor(size)) == 1]


def crop(images: Tensor, padding: int, window: Tensor) -> Tensor:
    """Cut window [B] int64 (row-major, (2·padding + 1)² of them) from zero-padded images."""
    side = 2 * padding + 1
    top, left = window // side, window % side
    padded = F.pad(images, (padding,) * 4)
    # Only the CPU copies long runs faster than it gathers elements, and only there is it known that
    # index_select does not first materialise the overlapping runs.
    cut = _crop_by_run if images.device.type == "cpu" else _crop_by_element
    return cut(padded, top, left, images.shape)


def _crop_by_run(padded: Tensor, top: Tensor, left: Tensor, shape: torch.Size) -> Tensor:
    """One memory copy an image, from the crop's first byte to its last: 60 us a batch of 128.

    The run holds the margins between the rows too; the strided result steps over them.
    """
    batch, channels, height, width = shape
    row = padded.shape[3]
    plane = padded.shape[2] * row
    run = (channels - 1) * plane + (height - 1) * row + width
    starts = torch.arange(batch, device=top.device) * channels * plane + top * row + left
    runs = padded.flatten().unfold(0, run, 1).index_select(0, starts)
    return runs.as_strided(shape, (run, plane, row, 1))


def _crop_by_element(padded: Tensor, top: Tensor, left: Tensor, shape: torch.Size) -> Tensor:
    """Gather every element through a window view: 430 us on the same batch and core."""
    batch, _, height, width = shape
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(batch, device=top.device), :, top, left]
