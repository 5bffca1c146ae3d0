"""Base class of the data modules that hold their images in memory."""

from typing import Any

from kd.data.arrays import Arrays
from kd.data.evaluation_sets import warn_of_shared_images
from kd.data.memory import MemoryDataModule
from kd.data.splits import (
    Split,
    channel_statistics,
    check_normalisation,
    given_statistics,
)


class ImageDataModule(MemoryDataModule):
    """Images in memory as uint8; a subclass implements `load`, and `fetch` for downloads.

    Args:
        mean, std: normalisation per channel on the 0..1 scale; None: that of the training split.
        **common: as `MemoryDataModule`.
    """

    def __init__(
        self, *, mean: list[float] | None = None, std: list[float] | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        self._given = check_normalisation(mean, std)

    def image_name(self, split: str, row: int) -> str:
        """Name of an image for messages: its row in the split."""
        return f"{split}[{row}]"

    def array_problems(self, arrays: Arrays) -> list[str]:
        found = super().array_problems(arrays)
        height, width = arrays.train_inputs.shape[2:]
        if height != width:
            found.append(f"images must be square, got {height} x {width}")
        return found

    def examine(self, arrays: Arrays) -> None:
        warn_of_shared_images(self.name, arrays, self.image_name)

    def make_split(self, arrays: Arrays, fraction: float) -> Split:
        split, images = super().make_split(arrays, fraction), arrays.train_inputs
        if self._given is None:
            statistics = channel_statistics(images, split.train.to(images.device))
        else:
            statistics = given_statistics(self._given, images.shape[1])
        return Split(split.train, split.val, *statistics)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.arrays.train_inputs.shape
        return channels, height, width
