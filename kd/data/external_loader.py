"""Loaders that turn a user's (input, target) into `Batch`es."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kd.data.counter_rng import stream
from kd.data.external_source import ForeignSource, MapSource, has_length, worker_options
from kd.data.isolated import isolated
from kd.data.loader import EpochSampler
from kd.errors import UserError
from kd.types import Batch

SAMPLES = 5  # purpose of a random stream; kd.data.loader and others use 1 … 4

# (input, target) as the user's code yields it, epoch and number of the batch -> images and labels
Convert = Callable[[Any, int, int], tuple[Tensor, Tensor]]


class Request(NamedTuple):
    """One batch: its epoch, its number in the epoch, and the positions of its samples."""

    epoch: int
    number: int
    rows: list[int]


class _Requests:
    """The `Request`s of an epoch, in place of a DataLoader's sampler."""

    def __init__(self, sampler: EpochSampler, in_order: bool) -> None:
        self.sampler, self.in_order = sampler, in_order

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Request]:
        order = self.sampler.order()
        for rows in self.sampler.slices():
            number = rows.start // self.sampler.batch_size
            # Evaluation is the same in every epoch, that of random transforms included.
            epoch = 0 if self.in_order else self.sampler.epoch
            yield Request(epoch, number, order[rows].tolist())


class Samples(Dataset[tuple[Request, Any]]):
    """Makes the batch of a `Request` from a map-style data set; runs in a worker if there are any.

    Random transforms draw from generators that are seeded by (seed, epoch, number of the batch), so
    that a batch is the same however often and in whichever process it is made.
    """

    def __init__(self, source: MapSource, seed: int) -> None:
        self.dataset, self.collate, self.seed = source.dataset, source.collate, seed

    def __getitem__(self, request: Request) -> tuple[Request, Any]:
        seed = stream(self.seed, SAMPLES, request.epoch, request.number)
        with isolated(seed):
            if hasattr(self.dataset, "__getitems__"):  # as torch's own DataLoader does
                samples = self.dataset.__getitems__(request.rows)
            else:
                samples = [self.dataset[row] for row in request.rows]
            return request, self.collate(samples)


class MapLoader:
    """Iterates over a map-style data set in the order of an `EpochSampler`; resumes exactly.

    Args:
        source: the data set and how its samples are collated and read.
        sampler: order of the rows.
        seed: of random transforms.
        convert: makes images and labels from what `collate` returns.
        in_order: `Batch.index` is the position in the order of `source.rows`, as a test set's is;
            else that in the data set.
        finished: returns the number of batches of this epoch whose step is done; None: the number
            yielded is used. Workers have read more.
    """

    batch_sampler = None  # Lightning reads it from every loader that has a `sampler`

    def __init__(
        self,
        source: MapSource,
        sampler: EpochSampler,
        seed: int,
        convert: Convert,
        *,
        in_order: bool = False,
        finished: Callable[[], int] | None = None,
    ) -> None:
        self.sampler, self._convert, self._in_order = sampler, convert, in_order
        self._finished, self._handed = finished, 0
        self._batches = DataLoader(
            Samples(source, seed),
            batch_size=None,
            sampler=_Requests(sampler, in_order),
            collate_fn=_unchanged,
            # An iterator draws its workers' seeds, and would draw them from the training's.
            generator=torch.Generator().manual_seed(stream(seed, SAMPLES)),
            **source.workers,
        )

    @property
    def batch_size(self) -> int:
        return self.sampler.batch_size

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: Lightning calls iter() before set_epoch(), and the body runs at first next().
        for request, content in self._batches:
            self._handed = request.number + 1
            input, target = self._convert(content, request.epoch, request.number)
            first = request.number * self.batch_size
            index = range(first, first + len(request.rows)) if self._in_order else request.rows
            yield _batch(input, target, torch.tensor(index), request.epoch)

    def state_dict(self) -> dict[str, int]:
        done = self._handed if self._finished is None else self._finished()
        return self.sampler.state_dict() | {"batch": done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)
        self._handed = state["batch"]


class ForeignLoader:
    """Iterates over a loader whose order is its own; it has no state to resume from.

    `Batch.index` is the position in the map-style data set behind the loader, if there is one, else
    the number of the sample within the epoch.

    Args:
        source: the loader.
        convert: makes images and labels from what it yields.
        in_order: `Batch.index` is the number of the sample in any case, as a test set's is.
    """

    batch_sampler = None

    def __init__(self, source: ForeignSource, convert: Convert, in_order: bool = False) -> None:
        self.sampler, self._convert, self._in_order = _Epoch(source.loader), convert, in_order
        numbered = source.dataset is not None and not in_order
        self._batches = _numbered(source.loader) if numbered else source.loader
        self._is_numbered = numbered

    def __len__(self) -> int:
        if not has_length(self._batches):
            raise TypeError("the loader's length is not known")
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Batch]:
        epoch, seen = 0 if self._in_order else self.sampler.epoch, 0
        for number, content in enumerate(self._batches):
            index, content = content if self._is_numbered else (None, content)
            input, target = self._convert(content, epoch, number)
            if index is None:
                index = torch.arange(seen, seen + len(input))
            seen += len(input)
            yield _batch(input, target, index, epoch)


class _Epoch:
    """The epoch, which Lightning sets, for a loader's own samplers as well."""

    def __init__(self, loader: Any) -> None:
        self.epoch = 0
        samplers = (getattr(loader, name, None) for name in ("sampler", "batch_sampler"))
        self._samplers = [s for s in (loader, *samplers) if hasattr(s, "set_epoch")]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        for sampler in self._samplers:
            sampler.set_epoch(epoch)


class _Numbered(Dataset[tuple[int, Any]]):
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self.dataset[index]


class _NumberedCollate:
    """A class, not a closure: workers that are spawned have to pickle it."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list[tuple[int, Any]]) -> tuple[Tensor, Any]:
        index, contents = zip(*samples, strict=True)
        return torch.tensor(index), self.collate(list(contents))


def _numbered(loader: Any) -> DataLoader[Any]:
    """The same loader, yielding the index of every sample as well."""
    return DataLoader(
        _Numbered(loader.dataset),
        batch_sampler=loader.batch_sampler,
        collate_fn=_NumberedCollate(loader.collate_fn),
        generator=loader.generator,
        **worker_options(loader),
    )


def _batch(input: Tensor, target: Tensor, index: Tensor, epoch: int) -> Batch:
    if len(input) != len(index):
        raise UserError(f"collate_fn made a batch of {len(input)} from {len(index)} samples")
    return Batch(input, target, index, torch.zeros_like(index), epoch)


def _unchanged(content: Any) -> Any:
    return content
