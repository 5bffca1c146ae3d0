"""What every teacher of an offline run is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.types import Batch, Outputs


class Teacher(nn.Module, ABC):
    """Trained nets that answer, never change, and leave no weights in a student's checkpoint.

    Attributes:
        pairing_weights: weight in the loss of each pairing that it serves, by name; almost always
            one, whose name is empty.
    """

    pairing_weights: Mapping[str, float] = {"": 1.0}

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval mode, whatever the module around says."""
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Return no weights: they lie in the teacher's own file, once for all its students."""
        return {} if destination is None else destination

    @property
    @abstractmethod
    def output_source(self) -> Literal["live", "cached"]:
        """How its all_outputs come about, for result.json."""

    @property
    @abstractmethod
    def forwards(self) -> int:
        """How many images its nets have processed in this run."""

    @property
    @abstractmethod
    def seconds(self) -> float:
        """Spent in answering in advance."""

    @property
    @abstractmethod
    def nets(self) -> Sequence[nn.Module]:
        """The nets that answer."""

    @property
    @abstractmethod
    def head(self) -> nn.Module | None:
        """The module that turns the tap `embedding` into logits, where there is one."""

    @property
    def device(self) -> torch.device:
        return next(self.nets[0].parameters()).device

    @abstractmethod
    def outputs(self, batch: Batch) -> Outputs:
        """Answer a batch: logits [B, K] and the wanted taps, without gradients."""

    def pairing_outputs(self, batch: Batch) -> dict[str, Outputs]:
        """Answer a batch for every pairing."""
        return {"": self.outputs(batch)}

    @abstractmethod
    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        """Answer a small batch [b, C, H, W] live for every pairing, leaving no mark."""

    def saw(self, batch: Batch, loader: TensorLoader) -> bool:
        """Whether its answers are to the very images of a batch; a live teacher is shown these."""
        return True

    @abstractmethod
    def prepare(
        self, loader: TensorLoader, index: Tensor, report: Callable[[int, int], None]
    ) -> None:
        """Make ready for one epoch: the samples `index` [M] in the views `loader` shows now.

        Args:
            loader: shows and normalises images; its sampler knows the epoch.
            index: the samples in question, in any order.
            report: told how many images are answered, and how many have to be.
        """
