"""Base class of data modules with samples in memory: loading, splitting, and facts about them."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from kd.data.arrays import Arrays, Pool, digest
from kd.data.base import DataModule
from kd.data.evaluation_sets import warn_of_missing_classes
from kd.data.loader import unlabelled
from kd.data.selection import check_selection, keep_samples, leave_out_classes
from kd.data.splits import Normalisation, Split, make_split
from kd.errors import UserError


class SplitArrays(DataModule):
    """Samples in memory, split into training and validation; a subclass adds their loaders.

    Args:
        name, val_fraction, split_seed, train_samples, leave_out, labels: as `MemoryDataModule`.
    """

    def __init__(
        self,
        *,
        name: str,
        val_fraction: float,
        split_seed: int,
        train_samples: int | None,
        leave_out: Sequence[str | int] | None,
        labels: bool,
    ) -> None:
        super().__init__()
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be in (0, 1), got {val_fraction!r}")
        check_seed("split_seed", split_seed)
        check_selection(train_samples, leave_out, labels)
        self.name = name
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.train_samples, self.leave_out, self.labels = train_samples, leave_out, labels
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
            _ = self.transfer_rows  # refuses an unknown class before a teacher is trained
            held_out = arrays.train_targets[self._split.val]
            self.warn_of_evaluation(
                arrays, held_out if arrays.val_targets is None else arrays.val_targets
            )
        if self.trainer is not None:
            self._pool.move(self.trainer.strategy.root_device)

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
        targets = self.arrays.train_targets
        return leave_out_classes(rows, targets, self.class_names, self.leave_out)

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
        targets = self.arrays.train_targets
        return targets if self.labels else unlabelled(targets)

    @property
    def test_targets(self) -> Tensor:
        return self.arrays.test_targets.cpu()

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


def check_seed(key: str, seed: int) -> None:
    """Refuse a seed that torch does not take.

    Raises:
        ValueError: it is negative or too large.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"{key} must be ≥ 0 and below 2**63, got {seed!r}")
