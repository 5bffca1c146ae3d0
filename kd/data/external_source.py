"""Description of a user's data set or loader: samples by index, order, workers."""

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    default_collate,
)

from kd.data.foreign_batch import describe
from kd.errors import UserError

# What a user's DataLoader was made with, and one in its place is made with as well
_WORKER_OPTIONS = (
    *("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context"),
    *("prefetch_factor", "persistent_workers"),
)


@dataclass(frozen=True)
class MapSource:
    """A map-style data set, of which `kd` decides the order.

    Attributes:
        dataset: has `__getitem__` and `__len__`; yields (input, target).
        rows: the samples that are used, positions in the data set [N], int64.
        shuffle: whether the user's loader shuffles; a plain data set is shuffled for training.
        batch_size: of the user's loader; None for a plain data set.
        drop_last: of the user's loader; None for a plain data set.
        collate: list of samples -> (input, target) of a batch.
        workers: keyword arguments of the `DataLoader` that reads the samples.
    """

    dataset: Any
    rows: Tensor
    shuffle: bool
    batch_size: int | None = None
    drop_last: bool | None = None
    collate: Callable[[list[Any]], Any] = default_collate
    workers: dict[str, Any] = field(default_factory=dict)

    @property
    def num_workers(self) -> int:
        """Number of worker processes; 0: samples are read in the main process."""
        return self.workers.get("num_workers", 0)


@dataclass(frozen=True)
class ForeignSource:
    """A loader whose order is its own.

    Attributes:
        loader: yields batches (input, target) each time it is iterated over.
        dataset: the map-style data set behind it; None: there is none.
        reason: why `kd` cannot decide its order.
    """

    loader: Iterable[Any]
    dataset: Any
    reason: str

    @property
    def num_workers(self) -> int:
        return getattr(self.loader, "num_workers", 0)


Source = MapSource | ForeignSource


def as_source(given: Any, split: str, batch_size: int = 64) -> Source:
    """Describe what a user gave as one split.

    Args:
        given: a `Dataset`, a `DataLoader`, or anything that can be iterated over again and again.
        split: `train`, `val` or `test`; a data set is shuffled for training.
        batch_size: of an `IterableDataset` without a loader.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(given, DataLoader):
        return _of_loader(given)
    if isinstance(given, IterableDataset):
        return ForeignSource(DataLoader(given, batch_size=batch_size), None, _ITERABLE)
    if isinstance(given, tuple | list | dict | str | Tensor) or not (
        hasattr(given, "__getitem__") or hasattr(given, "__iter__")
    ):
        raise UserError(f"{split} data: expected a DataLoader or a Dataset, got {describe(given)}")
    if hasattr(given, "__getitem__"):
        if not hasattr(given, "__len__"):
            raise UserError(f"{split} data: {type(given).__name__} has no __len__")
        return MapSource(given, torch.arange(len(given)), split == "train")
    if iter(given) is given:
        raise UserError(
            f"{split} data: a {type(given).__name__} can be read only once; use a loader"
        )
    return ForeignSource(given, None, f"a {type(given).__name__} is no torch DataLoader")


_ITERABLE = "an IterableDataset decides the order of its samples and does not number them"


def _of_loader(loader: DataLoader[Any]) -> Source:
    dataset, batches = loader.dataset, loader.batch_sampler
    if isinstance(dataset, IterableDataset):
        return ForeignSource(loader, None, _ITERABLE)
    if batches is None:
        return ForeignSource(loader, None, "with batch_size=None the data set makes the batches")
    rows = _rows(loader.sampler, dataset)
    if type(batches) is not BatchSampler or rows is None:
        own = loader.sampler if type(batches) is BatchSampler else batches
        return ForeignSource(loader, dataset, f"the DataLoader has a {type(own).__name__}")
    shuffle = not isinstance(loader.sampler, SequentialSampler)
    sizes = loader.batch_size, loader.drop_last
    return MapSource(dataset, rows, shuffle, *sizes, loader.collate_fn, worker_options(loader))


def _rows(sampler: Any, dataset: Any) -> Tensor | None:
    """The samples that one of torch's own samplers yields once an epoch; None for others."""
    whole = torch.arange(len(dataset))
    if type(sampler) is SequentialSampler:
        return whole
    if type(sampler) is RandomSampler:
        return None if sampler.replacement or len(sampler) != len(dataset) else whole
    if type(sampler) is SubsetRandomSampler:
        return torch.as_tensor(list(sampler.indices))
    return None


def worker_options(loader: Any) -> dict[str, Any]:
    """Keyword arguments that make another DataLoader read with the same workers."""
    found = {key: getattr(loader, key, None) for key in _WORKER_OPTIONS}
    if not found["num_workers"]:  # torch refuses these two without workers
        found.update(prefetch_factor=None, persistent_workers=False)
    return {key: value for key, value in found.items() if value is not None}


def has_length(loader: Any) -> bool:
    """Whether the number of batches is known; a DataLoader over a stream has only the method."""
    try:
        return isinstance(loader, Sized) and len(loader) > 0
    except (TypeError, NotImplementedError):
        return False


def check_foreign(name: str, source: ForeignSource, world_size: int, limit: int | float) -> None:
    """Refuse a training loader that cannot be shared, or whose epochs have no end.

    Args:
        name: of the data.
        source: the loader.
        world_size: number of devices.
        limit: `trainer.limit_train_batches`: a number of batches, or a fraction of them.

    Raises:
        UserError: it is one of these.
    """
    if world_size > 1:
        raise UserError(
            f"data {name!r}: {source.reason}, so that all {world_size} devices "
            "would train on the same samples; use trainer.devices=1"
        )
    if not has_length(source.loader) and type(limit) is float:
        raise UserError(
            f"data {name!r}: the training loader has no length, which schedules need; set "
            "trainer.limit_train_batches to the number of batches of an epoch"
        )


def module_loader(module: LightningDataModule, split: str) -> Any:
    """The loader of one split of a data module.

    Raises:
        UserError: it has none, or several.
    """
    hook = f"{split}_dataloader"
    if getattr(type(module), hook) is getattr(LightningDataModule, hook):
        raise UserError(
            f"{type(module).__name__} has no {hook}(), and a run needs all three splits"
        )
    loaders = getattr(module, hook)()
    if not isinstance(loaders, list | tuple | dict):
        return loaders
    if len(loaders) != 1:
        raise UserError(
            f"{type(module).__name__}.{hook}() returned {len(loaders)} loaders, not one"
        )
    return next(iter(loaders.values() if isinstance(loaders, dict) else loaders))
