"""Base class of the data modules that hold their images in memory."""

import copy
from abc import abstractmethod
from typing import Any, Self

import torch
from torch import Tensor

from kd.compat import finished_batches
from kd.data.arrays import Arrays, Pool, digest
from kd.data.augment import Augmentation
from kd.data.base import DataModule, Limits
from kd.data.evaluation_sets import warn_of_missing_classes, warn_of_shared_images
from kd.data.last_batch import drops_last
from kd.data.loader import EpochSampler, TensorLoader, check_batch_size
from kd.data.splits import Normalisation, Split, check_normalisation, make_split
from kd.data.views import Identity, Limited, ViewSpace
from kd.errors import UserError
from kd.types import Batch


class ImageDataModule(DataModule):
    """Images in memory as uint8; a subclass implements `load`, and `fetch` for downloads.

    `prepare_data()` downloads or decodes; `setup()` loads and splits, and with a trainer attached
    moves the tensors to its device. Both may be called without a trainer, and repeatedly. The test
    set is the data set's own and is never used in training or validation.

    Args:
        name: for messages and result tables.
        batch_size: training images a step, over all devices together.
        eval_batch_size: validation and test images a step, on each device.
        val_fraction: fraction of each class, in (0, 1), held out of the training images for
            validation; unused if the data set has a validation set of its own.
        seed: seed of the order and the views; the model's seed does not change them.
        split_seed: seed of the validation split, apart from `seed`, so that runs with different
            seeds are validated on the same images.
        view: space of the training views; None: `Identity()`. Evaluation images are unchanged.
        views: number of views of each image that are used, drawn by `seed`; None: all.
        augment: random change of whole training batches; None: there is none.
        mean, std: normalisation per channel on the 0..1 scale; None: that of the training split.
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
        mean: list[float] | None = None,
        std: list[float] | None = None,
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
        _ = self.view_space  # refuses a bad number of views
        self._given = check_normalisation(mean, std)
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
        """The same data and split with another `batch_size`, `seed`, `views` or `augment`.

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

    def image_name(self, split: str, row: int) -> str:
        """Name of an image for messages: its row in the split."""
        return f"{split}[{row}]"

    def _load_pool(self) -> Arrays:
        def load() -> Arrays:
            arrays = self.load()
            if not arrays.problems():
                warn_of_shared_images(self.name, arrays, self.image_name)
            return arrays

        return self._pool.load(load, self.name)

    def setup(self, stage: str | None = None) -> None:
        arrays = self._load_pool()
        if self._split is None:
            own = arrays.val_targets is not None
            if not own and not self.val_fraction:
                raise UserError(f"data {self.name!r}: data.val_fraction must be in (0, 1), got 0")
            fraction = 0.0 if own else self.val_fraction
            images, targets = arrays.train_images, arrays.train_targets
            self._split = make_split(images, targets, fraction, self.split_seed, self._given)
            evaluated = (
                targets[self._split.val] if arrays.val_targets is None else arrays.val_targets
            )
            by_split = {"val": evaluated, "test": arrays.test_targets}
            warn_of_missing_classes(self.name, arrays.class_names, by_split)
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
            self.split.train,
            self.batch_size,
            seed=self.seed,
            shuffle=not getattr(trainer, "overfit_batches", 0),
            drop_last=drops_last(len(self.split.train), self.batch_size, world_size, self.name),
            rank=trainer.global_rank if trainer else 0,
            world_size=world_size,
        )
        if self.augment is not None:
            self.augment.num_classes = self.num_classes
        images, targets = self.arrays.train_images, self.arrays.train_targets
        return self._loader(images, targets, sampler, self.view_space, self.augment)

    def val_dataloader(self) -> TensorLoader:
        """All validation images in order, on every device, so that metrics are exact."""
        arrays = self.arrays
        if arrays.val_images is not None and arrays.val_targets is not None:
            return self._evaluation(arrays.val_images, arrays.val_targets, None)
        return self._evaluation(arrays.train_images, arrays.train_targets, self.split.val)

    def test_dataloader(self) -> TensorLoader:
        """All test images in order, on every device; `index` is the position in the test set."""
        return self._evaluation(self.arrays.test_images, self.arrays.test_targets, None)

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
        """Which samples train and validate, and the normalisation in use."""
        if self._split is None:
            raise RuntimeError(f"data {self.name!r}: call prepare_data() and setup() first")
        return self._split

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.arrays.train_images.shape
        return channels, height, width

    @property
    def normalisation(self) -> Normalisation:
        return self.split.mean.tolist(), self.split.std.tolist()

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
        sizes = {"train": self.split.train, "val": self.split.val if own is None else own}
        sizes |= {"test": test, "pool": self.arrays.train_targets}
        return {name: len(samples) for name, samples in sizes.items()}

    def images_fingerprint(self, split: str) -> str:
        """Content hash of the images of `train` (the whole pool) or `test`, and the normalisation.

        Where mean and std are given it is the same for every validation split, batch size and seed.
        """
        images = self._pool.digest((f"{split}_images",))
        return digest([images, self.split.mean, self.split.std])

    @property
    def fingerprint(self) -> str:
        """Content hash of images, targets, class names, split and normalisation."""
        return digest([self._pool.digest(Arrays._fields), *self.split])

    def _evaluation(self, images: Tensor, targets: Tensor, rows: Tensor | None) -> TensorLoader:
        rows = torch.arange(len(targets)) if rows is None else rows
        sampler = EpochSampler(rows, self.eval_batch_size, shuffle=False, drop_last=False)
        return self._loader(images, targets, sampler, Identity())

    def _loader(
        self,
        images: Tensor,
        targets: Tensor,
        sampler: EpochSampler,
        view: ViewSpace,
        augment: Augmentation | None = None,
    ) -> TensorLoader:
        sampler.rows = sampler.rows.to(images.device)
        return TensorLoader(
            images,
            targets,
            sampler,
            view_space=view,
            seed=self.seed,
            mean=self.split.mean,
            std=self.split.std,
            augmentation=augment,
            finished=self._finished_batches if self.trainer else None,
        )

    def _finished_batches(self) -> int:
        """Number of batches of this epoch whose step is done; a resumed run continues after them.

        The loader itself counts the batches it has yielded, one more if a step is interrupted.
        """
        assert self.trainer is not None
        return finished_batches(self.trainer)
