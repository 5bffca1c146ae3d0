"""Strong views: fixed operations of RandAugment, as a finite space of views.

Cubuk, Zoph, Shlens & Le, "RandAugment: Practical automated data augmentation with a reduced search
space", NeurIPS 2020, https://arxiv.org/abs/1909.13719. There every operation of an image is drawn
from 14, and its sign at random; the strength is the same for all. With a fixed strength these are
28 equally likely choices an operation, so that a view has a number, and a teacher's outputs for it
can be cached.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.data.views import ViewSpace

# Both signs of an operation that has none are the same, so that each operation is equally likely.
OPERATIONS = (
    *("identity", "autocontrast", "equalize", "posterize", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
    *("brightness", "colour", "contrast", "sharpness"),
)
_LARGEST = 30  # strength at which the ranges of the paper end


@dataclass(frozen=True)
class Strong(ViewSpace):
    """Operations of one strength in sequence: (2 · 14)^operations views.

    View `v` starts with choice v % 28; choice c is operation c // 2 of `OPERATIONS`, with a
    negative sign if c is odd. Each operation runs once for all images that it changes.

    Images have one or three channels.

    Args:
        operations: number of operations, 1 … 4.
        magnitude: their strength, 0 … 30.
    """

    operations: int = 2
    magnitude: int = 10

    def __post_init__(self) -> None:
        for name, low, high in (("operations", 1, 4), ("magnitude", 0, _LARGEST)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be in {low} … {high}, got {getattr(self, name)!r}")

    @property
    def size(self) -> int:
        return int((2 * len(OPERATIONS)) ** self.operations)

    def apply(self, images: Tensor, view: Tensor) -> Tensor:
        shown, choices = images.clone(memory_format=torch.contiguous_format), 2 * len(OPERATIONS)
        for place in range(self.operations):
            chosen = view // choices**place % choices
            for choice in chosen.unique().tolist():
                rows = (chosen == choice).nonzero().squeeze(1)
                change = operation(choice, self.magnitude / _LARGEST)
                shown[rows] = change(shown.index_select(0, rows))
        return shown


@dataclass(frozen=True)
class Chained(ViewSpace):
    """Views of one space, each seen through those of another.

    View `v` is view v % then.size of `then`, of view v // then.size of `first`.

    Raises:
        ValueError: there are more than 2**31.
    """

    first: ViewSpace
    then: ViewSpace

    def __post_init__(self) -> None:
        if self.size > 2**31:
            raise ValueError(
                f"{self.first.size} views with {self.then.size} each are more than 2**31, the most "
                "that can be numbered; take fewer operations, or less padding"
            )

    @property
    def size(self) -> int:
        return self.first.size * self.then.size

    def apply(self, images: Tensor, view: Tensor) -> Tensor:
        return self.then.apply(
            self.first.apply(images, view // self.then.size), view % self.then.size
        )


def operation(choice: int, strength: float) -> Callable[[Tensor], Tensor]:
    """Return a choice of `Strong` as a function of images uint8 [n, C, H, W].

    Args:
        choice: in range(28).
        strength: in [0, 1], of the range of each operation.
    """
    from torchvision.transforms.v2 import functional as vision

    name, signed = OPERATIONS[choice // 2], -strength if choice % 2 else strength
    if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        return _moved(name, signed)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "identity": lambda images: images,
        "autocontrast": vision.autocontrast,
        "equalize": vision.equalize,
        "posterize": lambda images: vision.posterize(images, 8 - round(4 * strength)),
        "solarize": lambda images: vision.solarize(images, 255 * (1 - strength)),
        "brightness": lambda images: vision.adjust_brightness(images, 1 + 0.9 * signed),
        "colour": lambda images: _colour(images, 1 + 0.9 * signed),
        "contrast": lambda images: vision.adjust_contrast(images, 1 + 0.9 * signed),
        "sharpness": lambda images: vision.adjust_sharpness(images, 1 + 0.9 * signed),
    }
    return changes[name]


def _moved(name: str, signed: float) -> Callable[[Tensor], Tensor]:
    """An affine map to the nearest pixel, with zeros outside of the image."""
    from torchvision.transforms.v2 import functional as vision

    angle = 30 * signed if name == "rotate" else 0.0
    degrees = math.degrees(math.atan(0.3 * signed))
    shear = [degrees * (name == "shear_x"), degrees * (name == "shear_y")]

    def change(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        shift = 150 / 331 * signed  # pixels of an image of 331, as in AutoAugment
        x, y = (int(shift * width), 0) if name == "translate_x" else (0, int(shift * height))
        translate = [x, y] if name.startswith("translate") else [0, 0]
        return vision.affine(images, angle=angle, translate=translate, scale=1.0, shear=shear)

    return change


def _colour(images: Tensor, factor: float) -> Tensor:
    """Change the saturation of images of three channels; others have none."""
    from torchvision.transforms.v2 import functional as vision

    return vision.adjust_saturation(images, factor) if images.shape[1] == 3 else images
