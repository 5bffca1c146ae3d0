"""The interface between a run and its data."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from lightning import LightningDataModule
from torch import Tensor

from kd.data.augment import Augmentation
from kd.data.splits import Normalisation
from kd.data.views import ViewSpace
from kd.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Features of a run that a data module does not support, each with the reason.

    An empty string means that the feature is supported.

    Attributes:
        cache: teacher outputs stored by (index, view) and reused.
        index: `Batch.index` in training, and the labels of the training pool.
        images: reading any training or test image by its index.
        resume: resuming exactly within an epoch.
        registry: recognising the data, so that a teacher trained on them before is reused.
        second: two views of each training image in a batch.
    """

    cache: str = ""
    index: str = ""
    images: str = ""
    resume: str = ""
    registry: str = ""
    second: str = "they have one view of each sample"


class DataModule(LightningDataModule, ABC):
    """What a run needs from its data; every data module of `kd` implements it.

    The three `*_dataloader()` methods return iterables of `Batch` whose `sampler` has `set_epoch`;
    Lightning calls it before each epoch. In test batches `index` is the position in the test set.

    Attributes:
        task: name of the task whose labels the data have, a key of `kd.tasks.TASKS`.
        name: for messages, folder names and result tables.
        batch_size: training images a step, over all devices together.
        eval_batch_size: validation and test images a step, on each device.
        seed: seed of the order, the views and random transforms; the run's `seed`, which
            initialises the student, has no influence on them.
        view: the space of training views; `view_space` is all or a part of it.
        augment: random change of whole training batches; None: there is none.
        two_views: the second view of each image in training batches, set by the run: `strong`, or
            `same`, one more of `view`, unless the data name another; "": there is none.
        labels: whether training batches have labels; validation and test batches do.
    """

    task: ClassVar[str] = "image_classification"
    name: str
    batch_size: int
    eval_batch_size: int
    seed: int
    view: ViewSpace
    augment: Augmentation | None
    two_views: Literal["", "strong", "same"] = ""
    labels: bool = True

    @property
    @abstractmethod
    def view_space(self) -> ViewSpace:
        """The views that training images are drawn from."""

    @property
    def second_space(self) -> ViewSpace:
        """The views that second views are drawn from, with `two_views`.

        Raises:
            NotImplementedError: `limits.second` has the reason.
        """
        raise NotImplementedError(f"data {self.name!r} have no second views")

    @abstractmethod
    def setup(self, stage: str | None = None) -> None:
        """Load and split the data, all stages at once; further calls change nothing."""

    @abstractmethod
    def variant(self, **settings: Any) -> Self:
        """The same data and split with another `batch_size`, `seed`, `views` or `augment`."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape [C, H, W] of an image, or [L] of a text."""

    @property
    def net_arguments(self) -> dict[str, Any]:
        """Arguments of a net's constructor that depend on the data."""
        facts = {"in_channels": self.in_channels, "image_size": self.image_size}
        return facts | {"num_classes": self.num_classes}

    @property
    def pad_index(self) -> int | None:
        """Token id that fills texts up to the length of a batch; None: samples are not padded."""
        return None

    def random_input(self, count: int) -> Tensor:
        """Return a batch [count, …] of noise, always the same."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn((count, *self.input_shape), generator=generator)

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation | None:
        """(mean, std) per channel [C] on the 0..1 scale; None: the data set yields floats, and does
        not say how they were made.
        """

    @property
    @abstractmethod
    def class_names(self) -> list[str]:
        """Names of the K classes in the order of their labels."""

    @property
    @abstractmethod
    def num_samples(self) -> dict[str, int]:
        """Images in `train`, `val` and `test`, and in the `pool` that the training index counts."""

    @property
    @abstractmethod
    def train_targets(self) -> Tensor | None:
        """Labels of the training pool by index [N], int64; None if `limits.index` is not empty.

        Without `labels`, all are −1.
        """

    @property
    @abstractmethod
    def test_targets(self) -> Tensor:
        """Labels of the test set in its order [N], int64, on the CPU."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Identity of the data, part of the key under which a trained teacher is registered."""

    @property
    def run_fingerprint(self) -> str | None:
        """Identity of the data as a run uses them; None: they cannot be recognised."""
        return None if self.limits.registry else self.fingerprint

    @abstractmethod
    def inputs_fingerprint(self, split: str) -> str:
        """Identity of the images of `train` or `test` as a net receives them; keys the cache."""

    @property
    def limits(self) -> Limits:
        """What these data do not support."""
        return Limits()

    @property
    def in_channels(self) -> int:
        return self.input_shape[0]

    @property
    def image_size(self) -> int:
        """Height and width of an image.

        Raises:
            UserError: they differ; the model families of `kd` take square images.
        """
        _, height, width = self.input_shape
        if height != width:
            raise UserError(
                f"data {self.name!r}: images are {height} x {width}, and the models of kd take "
                "square ones; resize or crop them, or pass a student and a teacher of your own"
            )
        return height

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def mixes(self) -> bool:
        """Whether training targets are class probabilities [B, K] instead of labels [B]."""
        return self.augment is not None and self.augment.mixes
