"""Bank of generated images, from which a student's batches are drawn."""

import torch
from torch import Tensor, nn


class ImageBank(nn.Module):
    """The last N generated images as bytes, with the classes that they are meant to have.

    Part of the state dict, so that a resumed run continues with the same images.

    Args:
        size: N.
        shape: [C, S, S] of an image.

    Attributes:
        added: number of images that were ever added.

    Example:
        >>> bank = ImageBank(3, (1, 2, 2))
        >>> for target in ([0, 1], [2, 0]):
        ...     bank.add(torch.ones(2, 1, 2, 2), torch.tensor(target))
        >>> len(bank), bank.target.tolist(), bank.images.unique().tolist()
        (3, [0, 1, 2], [255])
    """

    images: Tensor
    target: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros((size, *shape), dtype=torch.uint8))
        self.register_buffer("target", torch.zeros(size, dtype=torch.int64))
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, len(self.target))

    def add(self, images: Tensor, target: Tensor) -> None:
        """Add images [B, C, S, S] in [0, 1] and their classes [B] in place of the oldest ones."""
        new = torch.arange(self.added, self.added + len(target), device=self.target.device)
        places = new % len(self.target)
        self.images[places] = (255 * images).round().to(torch.uint8)
        self.target[places] = target
        self.added += len(target)

    def filled(self) -> dict[str, Tensor]:
        """Return the images that were added and their classes, by `images` and `target`."""
        return {"images": self.images[: len(self)], "target": self.target[: len(self)]}

    def newest(self, count: int) -> Tensor:
        """Return at most this many of the newest images [n, C, S, S], the newest first."""
        back = torch.arange(min(count, len(self)), device=self.target.device)
        return self.images[(self.added - 1 - back) % len(self.target)]

    def draw(self, count: int) -> Tensor:
        """Draw places of images [count], each image with the same probability."""
        # On the CPU, so that the same seed draws the same images on every device
        return torch.randint(len(self), (count,)).to(self.target.device)

    # A buffer would make the host wait for the device at every batch.

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.added)

    def set_extra_state(self, state: Tensor) -> None:
        self.added = int(state)
