"""Base class of the data modules that hold their samples in memory: views and loaders."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from kd.compat import finished_batches
from kd.data.augment import Augmentation
from kd.data.base import Limits
from kd.data.counter_rng import stream
from kd.data.last_batch import drops_last
from kd.data.loader import SECOND_VIEW, EpochSampler, TensorLoader, check_batch_size
from kd.data.split_arrays import SplitArrays, check_seed
from kd.data.strong import Chained, Strong
from kd.data.views import Identity, Limited, ViewSpace
from kd.types import Batch


class MemoryDataModule(SplitArrays):
    """Samples in memory as tensors; a subclass implements `load`, and `fetch` for downloads.

    `prepare_data()` downloads or decodes; `setup()` loads and splits, and with a trainer attached
    moves the tensors to its device. Both may be called without a trainer, and repeatedly. The test
    set is the data set's own and is never used in training or validation.

    Args:
        name: for messages and result tables.
        batch_size: training samples a step, over all devices together.
        eval_batch_size: validation and test samples a step, on each device.
        val_fraction: fraction of each class, in (0, 1), held out of the training samples for
            validation; unused if the data set has a validation set of its own.
        seed: seed of the order and the views; the model's seed does not change them.
        split_seed: seed of the validation split, apart from `seed`, so that runs with different
            seeds are validated on the same samples.
        view: space of the training views; None: `Identity()`. Evaluation samples are unchanged.
        views: number of views of each sample that are used, drawn by `seed`; None: all.
        augment: random change of whole training batches; None: there is none.
        second: what changes the views of `view` to the second ones, for methods and modes with two
            views of an image; None: `Strong()`, or with `two_views="same"` nothing.
        train_samples: number of training samples in use, the same share of each class, drawn by
            `split_seed`; None: all. A teacher is trained on the same ones.
        leave_out: classes, as names or labels, that the transfer set is without. Validation, test
            and the teacher's training have them.
        labels: False: training batches have no labels. The validation split is the same: a share of
            each class, and labelled, as the test set is.
    """

    def __init__(
        self,
        *,
        name: str,
        batch_size: int,
        eval_batch_size: int = 512,
        val_fraction: float = 0.1,
        seed: int = 0,
        split_seed: int = 0,
        view: ViewSpace | None = None,
        views: int | None = None,
        augment: Augmentation | None = None,
        second: ViewSpace | None = None,
        train_samples: int | None = None,
        leave_out: Sequence[str | int] | None = None,
        labels: bool = True,
    ) -> None:
        super().__init__(
            name=name,
            val_fraction=val_fraction,
            split_seed=split_seed,
            train_samples=train_samples,
            leave_out=leave_out,
            labels=labels,
        )
        for key, size in {"batch_size": batch_size, "eval_batch_size": eval_batch_size}.items():
            if size < 1:
                raise ValueError(f"{key} must be ≥ 1, got {size!r}")
        check_seed("seed", seed)
        if not isinstance(view, ViewSpace | None):
            raise ValueError(f"view must be a ViewSpace, got {view!r}")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed = seed
        if not isinstance(augment, Augmentation | None):
            raise ValueError(f"augment must be an Augmentation, got {augment!r}")
        self.view = view or Identity()
        self.views, self.augment = views, augment
        if not isinstance(second, ViewSpace | None):
            raise ValueError(f"second must be a ViewSpace, got {second!r}")
        self.second = second
        # These refuse a wrong number of views.
        _ = self.view_space if second is None else self.second_space

    def variant(self, **settings: Any) -> Self:
        """The same data and split with other settings, such as `batch_size` or `leave_out`.

        The tensors are shared.
        """
        other = copy.copy(self)
        other.trainer = None
        for name, value in settings.items():
            setattr(other, name, value)
        return other

    @property
    def view_space(self) -> ViewSpace:
        """The views that training draws from."""
        return self.view if self.views is None else Limited(self.view, self.views)

    @property
    def second_space(self) -> ViewSpace:
        default = Identity() if self.two_views == "same" else Strong()
        second = self.second or default
        # One more view of the same space has its ids, so both share a cache.
        space = self.view if isinstance(second, Identity) else Chained(self.view, second)
        return space if self.views is None else Limited(space, self.views)

    def train_dataloader(self) -> TensorLoader:
        """A fresh loader: this rank's share of each shuffled batch; see `kd.data.last_batch`.

        Raises:
            UserError: the devices cannot share a batch evenly.
        """
        trainer = self.trainer
        world_size = trainer.world_size if trainer else 1
        check_batch_size(self.batch_size, world_size)
        rows = self.transfer_rows
        sampler = EpochSampler(
            rows,
            self.batch_size,
            seed=self.seed,
            shuffle=not getattr(trainer, "overfit_batches", 0),
            drop_last=drops_last(len(rows), self.batch_size, world_size, self.name),
            rank=trainer.global_rank if trainer else 0,
            world_size=world_size,
        )
        if self.augment is not None:
            self.augment.num_classes = self.num_classes
        inputs, targets = self.arrays.train_inputs, self.arrays.train_targets
        data = inputs, targets, sampler
        loader = self._loader(*data, self.view_space, self.augment, labelled=self.labels)
        if self.two_views:
            loader.second = self._loader(*data, self.second_space, labelled=self.labels)
            loader.second.seed = stream(self.seed, SECOND_VIEW)
        return loader

    def val_dataloader(self) -> TensorLoader:
        """All validation samples in order, on every device, so that metrics are exact."""
        arrays = self.arrays
        if arrays.val_inputs is not None and arrays.val_targets is not None:
            return self._evaluation(arrays.val_inputs, arrays.val_targets, None)
        return self._evaluation(arrays.train_inputs, arrays.train_targets, self.split.val)

    def test_dataloader(self) -> TensorLoader:
        """All test samples in order, on every device; `index` is the position in the test set."""
        return self._evaluation(self.arrays.test_inputs, self.arrays.test_targets, None)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch, unless it is on the device, as it is if all data fit there."""
        if batch.input.device == device:
            return batch
        return batch.to(device, non_blocking=True)

    @property
    def limits(self) -> Limits:
        images = "" if self.task == "image_classification" else Limits.second
        if not images and self._pool.arrays is not None and self.in_channels not in (1, 3):
            images = f"strong views are for 1 or 3 channels, and they have {self.in_channels}"
        if self.augment is None:
            return Limits(second=images)
        name = type(self.augment).__name__
        return Limits(
            cache=f"{name} has no finite set of views",
            second=images or f"{name} changes the first view of a batch alone",
        )

    def _evaluation(self, inputs: Tensor, targets: Tensor, rows: Tensor | None) -> TensorLoader:
        rows = torch.arange(len(targets)) if rows is None else rows
        sampler = EpochSampler(rows, self.eval_batch_size, shuffle=False, drop_last=False)
        return self._loader(inputs, targets, sampler, Identity())

    def _loader(
        self,
        inputs: Tensor,
        targets: Tensor,
        sampler: EpochSampler,
        view: ViewSpace,
        augment: Augmentation | None = None,
        labelled: bool = True,
    ) -> TensorLoader:
        sampler.rows = sampler.rows.to(inputs.device)
        return TensorLoader(
            inputs,
            targets,
            sampler,
            view_space=view,
            seed=self.seed,
            mean=self.split.mean,
            std=self.split.std,
            pad_index=self.pad_index,
            augmentation=augment,
            finished=self._finished_batches if self.trainer else None,
            labelled=labelled,
        )

    def _finished_batches(self) -> int:
        """Number of batches of this epoch whose step is done; a resumed run continues after them.

        The loader itself counts the batches it has yielded, one more if a step is interrupted.
        """
        assert self.trainer is not None
        return finished_batches(self.trainer)
