"""Random partners of samples within their class."""

import torch
from torch import Tensor

from kd.data.counter_rng import hashed

PARTNER = 4  # purpose of a random stream; kd.data.loader and kd.data.splits use 1 … 3


class SameClass:
    """Draws each sample's partner from the other samples of its class, uniformly.

    Args:
        rows: the samples to draw from, positions in the pool [M], int64; only these have partners.
        targets: labels of the pool [N], int64, on the same device.
    """

    def __init__(self, rows: Tensor, targets: Tensor) -> None:
        rows = rows.sort().values  # so that partners do not depend on the order of the epoch
        self._by_class = rows[targets[rows].argsort(stable=True)]
        self._targets = targets
        self._count = torch.bincount(targets[rows])  # of each class [K]
        self._first = self._count.cumsum(0) - self._count  # of each class in _by_class [K]
        self._place = torch.zeros_like(targets)  # of each sample in _by_class [N]
        self._place[self._by_class] = torch.arange(len(rows), device=rows.device)

    def draw(self, seed: int, epoch: int, index: Tensor) -> Tensor:
        """The partners [B] of samples `index` [B]; the only sample of a class is its own.

        A pure function of (seed, epoch, index), whatever the order of batches.
        """
        label = self._targets[index]
        first, count = self._first[label], self._count[label]
        # 1 … count − 1 steps on, around the class
        steps = 1 + ((hashed(index, seed, PARTNER, epoch) * (count - 1)) >> 32)
        return self._by_class[first + (self._place[index] - first + steps) % count]
