"""Generator of images of a class from noise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Generator(nn.Module):
    """Noise [B, Z] and classes [B] -> images [B, C, S, S] in (0, 1).

    Two nearest-neighbour upsamplings from a quarter of the size, as in the generator of Fang et al.
    2021, https://arxiv.org/abs/2105.08584. Theirs has no class; here the class's one-hot vector is
    appended to the noise, so that few steps suffice for an image of the class.

    Args:
        classes: K.
        shape: [C, S, S] of an image.
        noise: numbers Z of an image's noise.
        width: channels of the last hidden layer; the others have twice as many.

    Example:
        >>> generator = Generator(10, (1, 28, 28), noise=4, width=2)
        >>> generator(torch.zeros(3, 4), torch.arange(3)).shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(self, classes: int, shape: tuple[int, ...], noise: int, width: int) -> None:
        super().__init__()
        self.classes, self.size = classes, shape[1:]
        self.start = [max(1, -(-side // 4)) for side in self.size]
        cells = self.start[0] * self.start[1]
        self.project = nn.Linear(noise + classes, 2 * width * cells)
        self.norm = nn.BatchNorm2d(2 * width)
        self.coarse = _block(2 * width, 2 * width)
        self.fine = _block(2 * width, width)
        self.last = nn.Sequential(nn.Conv2d(width, shape[0], 3, padding=1), nn.Sigmoid())

    def forward(self, noise: Tensor, target: Tensor) -> Tensor:
        given = torch.cat([noise, F.one_hot(target, self.classes).to(noise.dtype)], 1)
        maps = self.norm(self.project(given).unflatten(1, (-1, *self.start)))
        maps = self.coarse(F.interpolate(maps, scale_factor=2.0))
        maps = self.fine(F.interpolate(maps, size=self.size))
        images: Tensor = self.last(maps)
        return images


def _block(before: int, after: int) -> nn.Sequential:
    layers = nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)
    return nn.Sequential(*layers)
