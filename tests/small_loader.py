"""Loaders over 100 small random images."""

import torch

from kd.data.augment import Augmentation
from kd.data.loader import EpochSampler, TensorLoader
from kd.data.views import CropFlip, ViewSpace
from kd.types import Batch

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
POOL = 100


def pool(count: int = POOL) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % 4


def make_loader(
    batch_size: int = 16,
    rows: torch.Tensor | None = None,
    seed: int = 0,
    view: ViewSpace | None = None,
    augmentation: Augmentation | None = None,
    **settings: object,
) -> TensorLoader:
    images, targets = pool()
    rows = torch.arange(POOL) if rows is None else rows
    sampler = EpochSampler(rows, batch_size, seed=seed, **settings)  # type: ignore[arg-type]
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
    view = view or CropFlip()
    return TensorLoader(
        images,
        targets,
        sampler,
        view_space=view,
        seed=seed,
        mean=mean,
        std=std,
        augmentation=augmentation,
    )


def epoch_of(loader: TensorLoader, epoch: int) -> Batch:
    loader.sampler.set_epoch(epoch)
    batches = list(loader)
    assert {batch.epoch for batch in batches} == {epoch}
    images, target, index, view = (
        torch.cat(parts) for parts in zip(*(batch[:4] for batch in batches), strict=True)
    )
    return Batch(images, target, index, view, epoch)


def by_index(batch: Batch) -> dict[int, bytes]:
    return {int(i): x.numpy().tobytes() for i, x in zip(batch.index, batch.input, strict=True)}
