"""Fixed nets and images for objectives that run both nets on rotated images."""

import torch
from torch import Tensor

from kd.types import Batch, Outputs


def images_of(batch: Batch | Tensor) -> Tensor:
    """Images [B, 1, 8, 8] that are the same for the same number of labels."""
    count = len(batch.target if isinstance(batch, Batch) else batch)
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def net(classes: int, width: int, seed: int, **maps: tuple[int, ...]):
    """What runs a linear net: images -> logits, and an embedding or maps of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = maps or {"embedding": (width,)}
    weights = {
        name: torch.randn(64, int(torch.tensor(shape).prod()), generator=generator) / 8
        for name, shape in {"logits": (classes,), **shapes}.items()
    }

    def run(images: Tensor) -> Outputs:
        rows = images.flatten(1)
        logits = rows @ weights["logits"]
        taps = {name: (rows @ weights[name]).unflatten(1, shape) for name, shape in shapes.items()}
        return Outputs(logits, taps)

    return run
