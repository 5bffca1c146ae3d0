"""Data module around a user's LightningDataModule, DataLoaders or data sets.

The teacher runs on every batch: the data set may transform its images at random, so teacher outputs
of an earlier epoch cannot be reused.
"""

import copy
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Self

import torch
from lightning import LightningDataModule
from torch import Tensor

from kd.compat import finished_batches
from kd.data.arrays import digest
from kd.data.base import DataModule, Limits
from kd.data.external_facts import check_classes, class_names_of, labels_of
from kd.data.external_identity import recognised, warn_of_shared_samples
from kd.data.external_loader import ForeignLoader, MapLoader, Request, Samples
from kd.data.external_source import MapSource, Source, as_source, check_foreign, module_loader
from kd.data.foreign_batch import Conversion, ModuleHooks
from kd.data.isolated import isolated
from kd.data.last_batch import drops_last
from kd.data.loader import EpochSampler, check_batch_size
from kd.data.splits import Normalisation, check_normalisation
from kd.data.views import Identity, ViewSpace
from kd.errors import UserError
from kd.types import Batch

log = logging.getLogger(__name__)


class ExternalData(DataModule):
    """Adapts a user's data to what a run needs.

    Images are uint8 [B, C, H, W], which are normalised here with `mean` and `std` (scaled to 0..1
    without them), or floats, which are taken as they are. Targets are class numbers [B], or in
    training class probabilities [B, K].

    A map-style data set is read in `kd`'s own order, a function of (seed, epoch), by the number of
    workers that the user's DataLoader has. Random transforms are seeded by (seed, epoch, batch).
    Training then resumes exactly within an epoch, and methods that store values by sample index
    work. A DataLoader with another sampler than torch's plain ones keeps its order, and is not
    resumed within an epoch; an IterableDataset has no index either.

    Args:
        train, val, test: a `DataLoader` or `Dataset` each; the validation set selects the epoch.
        module: a `LightningDataModule` in their place; its hooks around the transfer of a batch run
            as well.
        name: for messages, folder names and result tables.
        batch_size: training images a step; None: as the training loader has it, 64 for a data set.
        eval_batch_size: validation and test images a step, for data sets without a loader.
        seed: of order and transforms.
        num_classes: K; None: the number of `class_names`, of the data set's `classes`, or of its
            labels.
        class_names: names of the classes; None: the data set's `classes`, else their numbers.
        mean, std: normalisation per channel on the 0..1 scale; of floats, what they were made with.
            It is recorded with the student.

    Example:
        >>> images, labels = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
        >>> whole = torch.utils.data.TensorDataset(images, labels)
        >>> data = ExternalData(train=whole, val=whole, test=whole, batch_size=16)
        >>> data.setup()
        >>> data.input_shape, data.num_classes, len(data.train_dataloader())
        ((1, 8, 8), 3, 4)
    """

    def __init__(
        self,
        *,
        train: Any = None,
        val: Any = None,
        test: Any = None,
        module: LightningDataModule | None = None,
        name: str = "external",
        batch_size: int | None = None,
        eval_batch_size: int = 512,
        seed: int = 0,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        given = {"train": train, "val": val, "test": test}
        missing = [split for split, value in given.items() if value is None]
        if module is None and missing:
            raise ValueError(f"train, val and test are needed, got no {' and no '.join(missing)}")
        if module is not None and len(missing) < len(given):
            raise ValueError("module holds all three splits; leave train, val and test out")
        for key, size in {"batch_size": batch_size, "eval_batch_size": eval_batch_size}.items():
            if size is not None and size < 1:
                raise ValueError(f"{key} must be ≥ 1, got {size!r}")
        self.name, self.seed = name, seed
        self.batch_size, self.eval_batch_size = batch_size or 64, eval_batch_size
        self.view, self.augment = Identity(), None
        self.module = module
        self._given, self._batch_size = given, batch_size
        self._num_classes = num_classes
        self._class_names = check_classes(num_classes, class_names)
        self._normalisation = check_normalisation(mean, std)
        self._sources: dict[str, Source] = {}  # of all variants
        self._facts: dict[str, Any] = {}  # determined once, for all variants
        self._hooks = ModuleHooks(module)

    def variant(self, **settings: Any) -> Self:
        """The same data with another `batch_size` or `seed`; there are no `views` or `augment`."""
        other = copy.copy(self)
        other.trainer = None
        other.seed = settings.get("seed", self.seed)
        if isinstance(self._sources["train"], MapSource):  # other loaders have batches of their own
            other.batch_size = settings.get("batch_size", self.batch_size)
        return other

    def prepare_data(self) -> None:
        if self.module is not None and not self._sources:
            self.module.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        self._hooks.trainer = self.trainer
        if self._sources:
            return
        if self.module is not None:
            self.module.trainer = self.trainer
            self.module.setup("fit")  # training and validation, as Lightning has it
            self.module.setup("test")
        for split, given in self._given.items():
            found = given if self.module is None else module_loader(self.module, split)
            self._sources[split] = as_source(found, split, self.batch_size)
        self._read_first_batch()
        warn_of_shared_samples(self.name, self._sources)
        if self.limits.resume:
            log.info("data %r: no checkpoints within an epoch: %s", self.name, self.limits.resume)

    def _read_first_batch(self) -> None:
        """Find the shape and kind of inputs and targets, from two training samples or one batch."""
        source = self._sources["train"]
        if isinstance(source, MapSource):
            request = Request(0, 0, source.rows[:2].tolist())
            content = Samples(source, self.seed)[request][1]
        else:
            with isolated(0):
                content = next(iter(source.loader))
        conversion = self._conversion("train", check=False)
        input, target = conversion(content, 0, 0)
        size = source.batch_size if isinstance(source, MapSource) else len(input)
        self.batch_size = self._batch_size or size or self.batch_size
        self._facts |= {"shape": tuple(input.shape[1:]), "mixes": target.dim() == 2}
        # Of uint8 images without mean and std: 0 and 1
        self._normalisation = conversion.normalisation

    def train_dataloader(self) -> MapLoader | ForeignLoader:
        source, trainer = self._sources["train"], self.trainer
        self._hooks.trainer = trainer
        if isinstance(source, MapSource):
            return self._in_own_order(source)
        if trainer:
            check_foreign(self.name, source, trainer.world_size, trainer.limit_train_batches)
        return ForeignLoader(source, self._conversion("train"))

    def _in_own_order(self, source: MapSource) -> MapLoader:
        """The training loader of a map-style data set: this rank's part of each batch."""
        trainer = self.trainer
        world_size = trainer.world_size if trainer else 1
        check_batch_size(self.batch_size, world_size)
        sampler = EpochSampler(
            source.rows,
            self.batch_size,
            seed=self.seed,
            shuffle=source.shuffle and not getattr(trainer, "overfit_batches", 0),
            drop_last=drops_last(
                len(source.rows), self.batch_size, world_size, self.name, source.drop_last
            ),
            rank=trainer.global_rank if trainer else 0,
            world_size=world_size,
        )
        finished = partial(finished_batches, trainer) if trainer else None
        return MapLoader(source, sampler, self.seed, self._conversion("train"), finished=finished)

    def val_dataloader(self) -> Iterable[Batch]:
        return self._evaluation("val")

    def test_dataloader(self) -> Iterable[Batch]:
        return self._evaluation("test")

    def _evaluation(self, split: str) -> MapLoader | ForeignLoader:
        source = self._sources[split]
        if isinstance(source, MapSource):
            size = source.batch_size or self.eval_batch_size
            sampler = EpochSampler(source.rows, size, shuffle=False, drop_last=False)
            # A fixed seed: validation and test images do not depend on the run.
            return MapLoader(source, sampler, 0, self._conversion(split), in_order=True)
        return ForeignLoader(source, self._conversion(split), in_order=True)

    def _conversion(self, split: str, check: bool = True) -> Conversion:
        num_classes = self.num_classes if check else None
        seed = self.seed if split == "train" else 0
        # The scale of such floats, to which uint8 images would have to be brought, is unknown.
        floats = bool(self._facts) and self._normalisation is None
        made = self._normalisation, self._hooks
        return Conversion(self.name, split, seed, num_classes, *made, floats_only=floats)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch if batch.input.device == device else batch.to(device, non_blocking=True)

    @property
    def view_space(self) -> ViewSpace:
        return self.view

    @property
    def input_shape(self) -> tuple[int, int, int]:
        channels, height, width = self._facts["shape"]
        return channels, height, width

    @property
    def normalisation(self) -> Normalisation | None:
        return self._normalisation

    @property
    def mixes(self) -> bool:
        return bool(self._facts["mixes"])

    @property
    def class_names(self) -> list[str]:
        if self._class_names is None:
            names = class_names_of(self._sources["train"].dataset)
            count = self._num_classes or getattr(self.module, "num_classes", None)
            if names is None or count not in (None, len(names)):
                names = [str(number) for number in range(count or self._count_classes())]
            self._class_names = names
        return self._class_names

    def _count_classes(self) -> int:
        if self.train_targets is None:
            raise UserError(f"data {self.name!r}: give num_classes, since {self.limits.index}")
        return int(self.train_targets.max()) + 1

    @property
    def train_targets(self) -> Tensor | None:
        if "targets" not in self._facts:
            source = self._sources["train"]
            if source.dataset is None:
                return None
            self._facts["targets"] = labels_of(source.dataset, self.name, source.num_workers)
        targets: Tensor = self._facts["targets"]
        return targets

    @property
    def test_targets(self) -> Tensor:
        if "test_targets" not in self._facts:
            found = [batch.target for batch in self.test_dataloader()]
            self._facts["test_targets"] = torch.cat(found).cpu()
        targets: Tensor = self._facts["test_targets"]
        return targets

    @property
    def num_samples(self) -> dict[str, int]:
        sources = self._sources.items()
        sizes = {split: len(s.rows) for split, s in sources if isinstance(s, MapSource)}
        dataset = self._sources["train"].dataset
        return sizes if dataset is None else sizes | {"pool": len(dataset)}

    @property
    def limits(self) -> Limits:
        train = self._sources["train"]
        reasons = [s.reason for s in self._sources.values() if not isinstance(s, MapSource)]
        order = "" if isinstance(train, MapSource) else train.reason
        return Limits(
            cache="the data set may transform its images at random",
            index=order if train.dataset is None else "",
            images="the images are not in memory",
            resume=order or self._hooks.obstacle,
            registry=f"{reasons[0]}, so the data cannot be recognised" if reasons else "",
        )

    @property
    def fingerprint(self) -> str:
        """Hash of labels, of 64 images of each split, and of all images that lie in memory."""
        if self.limits.registry:
            raise UserError(f"data {self.name!r}: {self.limits.registry}")
        return digest([*self._recognised(), self.train_targets])

    @property
    def run_fingerprint(self) -> str | None:
        """As `fingerprint`, but labels that the data set does not list are not read."""
        return None if self.limits.registry else digest(self._recognised())

    def _recognised(self) -> list[Any]:
        """What identifies the data: some samples of each split, and all that lies in memory."""
        convert = partial(self._conversion, check=False)
        return [self.class_names, self._normalisation, *recognised(self._sources, convert)]

    def inputs_fingerprint(self, split: str) -> str:
        raise UserError(f"data {self.name!r}: {self.limits.cache}")
