"""Base class of the data modules that hold their samples in memory."""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from kd.compat import finished_batches
from kd.data.arrays import Arrays, Pool, digest
from kd.data.augment import Augmentation
from kd.data.base import DataModule, Limits
from kd.data.evaluation_sets import warn_of_missing_classes
from kd.data.last_batch import drops_last
from kd.data.loader import EpochSampler, TensorLoader, check_batch_size
from kd.data.selection import check_selection, keep_samples, leave_out_classes
from kd.data.splits import Normalisation, Split, make_split
from kd.data.views import Identity, Limited, ViewSpace
from kd.errors import UserError
from kd.types import Batch


class MemoryDataModule(DataModule):
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
        train_samples: number of training samples in use, the same share of each class, drawn by
            `split_seed`; None: all. A teacher is trained on the same ones.
        leave_out: classes, as names or labels, that the transfer set is without. Validation, test
            and the teacher's training have them.
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
        train_samples: int | None = None,
        leave_out: Sequence[str | int] | None = None,
    ) -> None:
        super().__init__()
        for key, size in {"batch_size": batch_size, "eval_batch_size": eval_batch_size}.items():
            if size < 1:
                raise ValueError(f"{key} must be ≥ 1, got {size!r}")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be in (0, 1), got {val_fraction!r}")
        for key, value in {"seed": seed, "split_seed": split_seed}.items():
            if not 0 <= value < 2**63:
                raise ValueError(f"{key} must be ≥ 0 and below 2**63, got {value!r}")
        if not isinstance(view, ViewSpace | None):
            raise ValueError(f"view must be a ViewSpace, got {view!r}")
        self.name = name
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.seed, self.split_seed = val_fraction, seed, split_seed
        if not isinstance(augment, Augmentation | None):
            raise ValueError(f"augment must be an Augmentation, got {augment!r}")
        self.view = view or Identity()
        self.views, self.augment = views, augment
        check_selection(train_samples, leave_out)
        self.train_samples, self.leave_out = train_samples, leave_out
        _ = self.view_space  # refuses a bad number of views
        self._pool = Pool()
        self._split: Split | None = None

    @abstractmethod
    def load(self) -> Arrays:
        """Read the data set after `fetch`.

        Raises:
            UserError: it is missing or damaged.
        """

    def fetch(self) -> None:
        """Download or decode the data set, once on each machine.

        Raises:
            UserError: that fails.
        """

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

    def prepare_data(self) -> None:
        if self._pool.arrays is None:
            self.fetch()

    def array_problems(self, arrays: Arrays) -> list[str]:
        """Reasons why training on these arrays is impossible, one sentence each."""
        return arrays.problems()

    def examine(self, arrays: Arrays) -> None:
        """Hook: warn of what is unusual in arrays without problems."""

    def make_split(self, arrays: Arrays, fraction: float) -> Split:
        """Split the training pool, with `fraction` of each class for validation."""
        split = make_split(arrays.train_targets, fraction, self.split_seed)
        if self.train_samples is None:
            return split
        chosen = (arrays.train_targets, self.train_samples, self.split_seed)
        return split._replace(train=keep_samples(split.train, *chosen))

    def warn_of_evaluation(self, arrays: Arrays, val_targets: Tensor) -> None:
        """Warn of evaluation sets without a sample of some class."""
        by_split = {"val": val_targets, "test": arrays.test_targets}
        warn_of_missing_classes(self.name, arrays.class_names, by_split)

    def _load_pool(self) -> Arrays:
        def load() -> Arrays:
            arrays = self.load()
            if not self.array_problems(arrays):
                self.examine(arrays)
            return arrays

        return self._pool.load(load, self.name, self.array_problems)

    def setup(self, stage: str | None = None) -> None:
        arrays = self._load_pool()
        if self._split is None:
            own = arrays.val_targets is not None
            if not own and not self.val_fraction:
                raise UserError(f"data {self.name!r}: data.val_fraction must be in (0, 1), got 0")
            fraction = 0.0 if own else self.val_fraction
            self._split = self.make_split(arrays, fraction)
            held_out = arrays.train_targets[self._split.val]
            self.warn_of_evaluation(
                arrays, held_out if arrays.val_targets is None else arrays.val_targets
            )
        if self.trainer is not None:
            self._pool.move(self.trainer.strategy.root_device)

    def train_dataloader(self) -> TensorLoader:
        """A fresh loader: this rank's share of each shuffled batch; see `kd.data.last_batch`.

        Raises:
            UserError: the devices cannot share a batch evenly.
        """
        trainer = self.trainer
        world_size = trainer.world_size if trainer else 1
        check_batch_size(self.batch_size, world_size)
        sampler = EpochSampler(
            self.transfer_rows,
            self.batch_size,
            seed=self.seed,
            shuffle=not getattr(trainer, "overfit_batches", 0),
            drop_last=drops_last(len(self.transfer_rows), self.batch_size, world_size, self.name),
            rank=trainer.global_rank if trainer else 0,
            world_size=world_size,
        )
        if self.augment is not None:
            self.augment.num_classes = self.num_classes
        inputs, targets = self.arrays.train_inputs, self.arrays.train_targets
        return self._loader(inputs, targets, sampler, self.view_space, self.augment)

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
    def arrays(self) -> Arrays:
        if self._pool.arrays is None:
            raise RuntimeError(f"data {self.name!r}: call prepare_data() and setup() first")
        return self._pool.arrays

    @property
    def split(self) -> Split:
        """Which samples train and validate, and the normalisation of images in use."""
        if self._split is None:
            raise RuntimeError(f"data {self.name!r}: call prepare_data() and setup() first")
        return self._split

    @property
    def transfer_rows(self) -> Tensor:
        """Positions of the transfer set in the training pool, int64 [N]."""
        rows = self.split.train
        if self.leave_out is None:
            return rows
        return leave_out_classes(rows, self.train_targets, self.class_names, self.leave_out)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.arrays.train_inputs.shape[1:])

    @property
    def normalisation(self) -> Normalisation | None:
        mean, std = self.split.mean, self.split.std
        return None if mean is None or std is None else (mean.tolist(), std.tolist())

    @property
    def class_names(self) -> list[str]:
        return self.arrays.class_names

    @property
    def train_targets(self) -> Tensor:
        return self.arrays.train_targets

    @property
    def test_targets(self) -> Tensor:
        return self.arrays.test_targets.cpu()

    @property
    def limits(self) -> Limits:
        if self.augment is None:
            return Limits()
        return Limits(cache=f"{type(self.augment).__name__} has no finite set of views")

    @property
    def num_samples(self) -> dict[str, int]:
        own, test = self.arrays.val_targets, self.arrays.test_targets
        sizes = {"train": self.transfer_rows, "val": self.split.val if own is None else own}
        sizes |= {"test": test, "pool": self.arrays.train_targets}
        return {name: len(samples) for name, samples in sizes.items()}

    def inputs_fingerprint(self, split: str) -> str:
        """Content hash of the inputs of `train` (the whole pool) or `test`, and the normalisation.

        Where mean and std are given it is the same for every validation split, batch size and seed.
        """
        inputs = self._pool.digest((f"{split}_inputs",))
        return digest([inputs, self.split.mean, self.split.std])

    @property
    def fingerprint(self) -> str:
        """Content hash of inputs, targets, class names, split and normalisation."""
        return digest([self._pool.digest(Arrays._fields), *self.split])

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
        )

    def _finished_batches(self) -> int:
        """Number of batches of this epoch whose step is done; a resumed run continues after them.

        The loader itself counts the batches it has yielded, one more if a step is interrupted.
        """
        assert self.trainer is not None
        return finished_batches(self.trainer)
