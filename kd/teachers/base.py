"""Interface of the teachers of offline distillation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.types import Batch, Outputs

Report = Callable[[int, int], None]  # progress: images done, images in total


class Teacher(nn.Module, ABC):
    """One or several frozen nets that yield outputs for the student's batches.

    A teacher stays in eval mode and has an empty state dict: its weights have a file of their own,
    which all its students share. `UpdatedTeacher` alone has parts that train.

    Attributes:
        pairing_weights: weight in the loss of each pairing that the teacher serves, by name: one,
            named "", or those of an ensemble with `combine=losses`, named like its members.
        changing: names of the parameters and buffers of its net that training changes.
    """

    pairing_weights: Mapping[str, float] = {"": 1.0}
    changing: frozenset[str] = frozenset()

    @property
    def run(self) -> Callable[[Tensor], Outputs] | None:
        """What runs a single net on images [B, C, H, W] that no cache holds, without gradients.

        None: there is no such net.
        """
        return None

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval mode; Lightning calls `train()` on the whole module."""
        # Batch norm in training mode would change both the outputs and the running statistics.
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Return no weights."""
        # Lightning saves the module's state dict in every checkpoint: 45 MB more for a ResNet-18.
        return {} if destination is None else destination

    @property
    @abstractmethod
    def output_source(self) -> Literal["live", "cached"]:
        """Origin of the outputs: computed on every batch, or read from a cache."""

    @property
    @abstractmethod
    def needs_preparation(self) -> bool:
        """Whether `prepare` has to be called before every epoch."""

    @property
    @abstractmethod
    def forwards(self) -> int:
        """Number of images that its nets have processed in this run."""

    @property
    @abstractmethod
    def seconds(self) -> float:
        """Seconds spent in filling caches."""

    @property
    @abstractmethod
    def nets(self) -> Sequence[nn.Module]:
        """The frozen nets."""

    @property
    @abstractmethod
    def head(self) -> nn.Module | None:
        """The module that maps the tap `embedding` to logits; None: there is none."""

    def pairing_head(self, name: str) -> nn.Module | None:
        """Return the `head` of the net whose outputs a pairing has."""
        return self.head

    @property
    def device(self) -> torch.device:
        """Device of the nets."""
        return next(self.nets[0].parameters()).device

    @abstractmethod
    def outputs(self, batch: Batch) -> Outputs:
        """Return logits [B, K] and the wanted taps for a batch, without gradients if frozen."""

    def pairing_outputs(self, batch: Batch) -> dict[str, Outputs]:
        """Return the outputs for a batch, by pairing."""
        return {"": self.outputs(batch)}

    @abstractmethod
    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        """Run the nets on a small batch [b, C, H, W] without side effects; outputs by pairing."""

    @abstractmethod
    def prepare(self, loader: TensorLoader, index: Tensor, report: Report) -> None:
        """Make the outputs for one epoch available.

        Args:
            loader: its sampler has the epoch; it yields the images of given samples and views.
            index: the samples of the epoch [M], in any order.
            report: called with the progress after every inference batch.
        """

    def matches(self, batch: Batch, loader: TensorLoader) -> bool:
        """Return whether `outputs(batch)` belongs to the images in the batch.

        A live teacher runs on them, so this holds.
        """
        return True
