"""Loader over tensors in memory, with a state that resumes exactly within an epoch.

A batch is gathered, transformed to its views and normalised in a few vectorised operations on the
device of the data, without files or worker processes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kd.data.augment import Augmentation
from kd.data.counter_rng import stream
from kd.data.normalise import Normalise
from kd.data.views import ViewSpace
from kd.errors import UserError
from kd.types import Batch

# Purposes of random streams, one of the integers that seed them; kd.data.splits uses 2.
ORDER = 1
AUGMENTATION = 3
SECOND_VIEW = 4
UNLABELLED = -1  # target of a sample whose label is not used; no class has this number


class EpochSampler:
    """Yields batches of sample positions [b]; the order is a function of (seed, epoch) alone.

    Args:
        rows: positions of the samples in the training pool [N], int64, on the data's device.
        batch_size: rows of one global batch, over all ranks.
        seed: the data seed.
        shuffle: a new permutation each epoch; False: always the order of `rows`.
        drop_last: skip an incomplete last batch, unless it is the only one.
        rank, world_size: this process takes rows [rank::world_size] of each global batch.
    """

    def __init__(
        self,
        rows: Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be ≥ 1, got {batch_size!r}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in range({world_size}), got {rank!r}")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._first = 0  # where the epoch resumes
        self._handed = 0  # batches yielded in this epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.rows), self.batch_size)
        return full + (rest > 0 and not (self.drop_last and full > 0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation. Lightning calls this before each epoch, resumed ones included."""
        if epoch != self.epoch:
            self.epoch, self._first, self._handed = epoch, 0, 0

    def order(self) -> Tensor:
        """The rows in this epoch's order [N]."""
        if not self.shuffle:
            return self.rows
        generator = torch.Generator().manual_seed(stream(self.seed, ORDER, self.epoch))
        shuffled = torch.randperm(len(self.rows), generator=generator)
        return self.rows.index_select(0, shuffled.to(self.rows.device))

    def slices(self) -> Iterator[slice]:
        """Slices of `order` of this rank's batches, without those done before a resume."""
        for number in range(self._first, len(self)):
            self._handed = number + 1
            start = number * self.batch_size
            stop = min(start + self.batch_size, len(self.rows))
            yield slice(start + self.rank, stop, self.world_size)
        self._first = 0

    def __iter__(self) -> Iterator[Tensor]:
        order = self.order()
        for rows in self.slices():
            yield order[rows]

    def state_dict(self) -> dict[str, int]:
        """Position in the epoch, and the settings that another sampler must share to load it."""
        return {"epoch": self.epoch, "batch": self._handed} | self._identity()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the state's batch in its epoch.

        Raises:
            UserError: the state belongs to a sampler with another seed, batch size or data set.
        """
        for key, value in self._identity().items():
            if state[key] != value:
                raise UserError(
                    f"cannot resume within the epoch: the checkpoint was written with data {key}="
                    f"{state[key]}, this run has {value}; resume with the same data settings"
                )
        self.epoch, self._first, self._handed = state["epoch"], state["batch"], state["batch"]

    def _identity(self) -> dict[str, int]:
        return {"seed": self.seed, "batch_size": self.batch_size, "samples": len(self.rows)}


def check_batch_size(batch_size: int, world_size: int) -> None:
    """Refuse a batch that the devices cannot share evenly.

    Unequal shares would weight images unequally in the gradient, which is a mean over devices.

    Raises:
        UserError: `batch_size` is no multiple of `world_size`.
    """
    if batch_size % world_size:
        raise UserError(
            f"data.batch_size={batch_size} does not divide among {world_size} devices; use a "
            f"multiple of {world_size}"
        )


def unlabelled(targets: Tensor) -> Tensor:
    """Return targets of the same shape that say nothing.

    Example:
        >>> unlabelled(torch.tensor([3, 0]))
        tensor([-1, -1])
    """
    return torch.full_like(targets, UNLABELLED)


class TensorLoader:
    """Iterates over `Batch`es of samples held in memory: images, or padded token ids.

    Args:
        inputs: images uint8 [N, C, H, W], or token ids int64 [N, L]. targets: [N, …].
        sampler: order of the rows.
        view_space: views, drawn from (seed, epoch, index).
        seed: the data seed.
        mean, std: per channel [C], on the 0..1 scale; None: inputs are used as they are.
        pad_index: the token that fills texts, whose batches end with their longest text; None:
            there is none.
        second: a loader of the same samples, whose views are the second ones of each batch; None:
            batches have one view.
        augmentation: random change of a whole batch after the views; None: there is none.
        finished: returns the number of batches of this epoch whose step is done; None: the number
            yielded is used. They differ by one when a step is interrupted, and a resumed run would
            skip that batch.
        labelled: whether batches have the targets; False: all are `UNLABELLED`, mixed ones as well.
    """

    batch_sampler = None  # Lightning reads it from every loader that has a `sampler`

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        sampler: EpochSampler,
        *,
        view_space: ViewSpace,
        seed: int,
        mean: Tensor | None,
        std: Tensor | None,
        pad_index: int | None = None,
        augmentation: Augmentation | None = None,
        second: "TensorLoader | None" = None,
        finished: Callable[[], int] | None = None,
        labelled: bool = True,
    ) -> None:
        self.inputs, self.sampler, self.labelled = inputs, sampler, labelled
        self.targets = targets if labelled else unlabelled(targets)
        self.view_space, self.seed, self.augmentation = view_space, seed, augmentation
        self.normalise: Callable[[Tensor], Tensor] = torch.nn.Identity()
        if mean is not None and std is not None:
            self.normalise = Normalise(mean, std).to(inputs.device)
        self.pad_index, self.second = pad_index, second
        self._finished = finished

    @property
    def batch_size(self) -> int:
        return self.sampler.batch_size

    def __len__(self) -> int:
        return len(self.sampler)

    def views(self, index: Tensor, epoch: int) -> Tensor:
        """View ids of samples `index` [B] in an epoch -> int64 [B]."""
        return self.view_space.draw(self.seed, epoch, index)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: Lightning calls iter() before set_epoch(), and the body runs at first next().
        order = self.sampler.order()
        views = self.views(order, self.sampler.epoch)
        for rows in self.sampler.slices():
            batch = self.show(order[rows], views[rows])
            if self.augmentation is not None:
                seed = stream(self.seed, AUGMENTATION, self.sampler.epoch, rows.start)
                batch = self._augmented(self.augmentation, seed, batch)
            batch = batch._replace(input=self._trimmed(self.normalise(batch.input)))
            yield batch if self.second is None else self._with_second(batch)

    def _with_second(self, batch: Batch) -> Batch:
        """The batch with the second views of its samples."""
        assert self.second is not None
        views = self.second.views(batch.index, batch.epoch)
        shown = self.second.show(batch.index, views)
        second = shown._replace(input=self.second.normalise(shown.input))
        return batch._replace(second=second)

    def _augmented(self, augmentation: Augmentation, seed: int, batch: Batch) -> Batch:
        # Mixing encodes class indices, which -1 is not.
        labels = batch.target if self.labelled else torch.zeros_like(batch.target)
        input, target = augmentation.seeded(seed, batch.input, labels)
        return batch._replace(input=input, target=target if self.labelled else batch.target)

    def _trimmed(self, input: Tensor) -> Tensor:
        """Cut texts [B, L] behind the end of the longest one; return images as they are."""
        if self.pad_index is None:
            return input
        used = (input != self.pad_index).any(0).nonzero()
        return input[:, : int(used[-1]) + 1] if len(used) else input[:, :1]

    def show(self, index: Tensor, view: Tensor) -> Batch:
        """Samples `index` [B] in their views [B], as stored: not normalised, and not trimmed."""
        # index_select copies whole rows: 12 us for 128 images of 3 kB where images[index] takes 230
        inputs = self.view_space.apply(self.inputs.index_select(0, index), view)
        target = self.targets.index_select(0, index)
        return Batch(inputs, target, index, view, self.sampler.epoch)

    def state_dict(self) -> dict[str, int]:
        state = self.sampler.state_dict()
        return state if self._finished is None else state | {"batch": self._finished()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)
