"""The teacher of an offline run: a net that answers and never changes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.taps import Taps
from kd.teachers.base import Teacher
from kd.types import Batch, Outputs


class FrozenTeacher(Teacher):
    """A trained net that looks at every batch when it comes.

    Args:
        net: the trained net; its parameters are frozen in place.
        tap_paths: canonical tap name -> module path.
        wanted: the taps to record.
    """

    def __init__(self, net: nn.Module, tap_paths: Mapping[str, str], wanted: Iterable[str]) -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.taps = Taps(net, tap_paths, wanted)
        self._forwards = 0
        self.train(False)

    @property
    def output_source(self) -> Literal["live"]:
        return "live"

    @property
    def forwards(self) -> int:
        return self._forwards

    @property
    def seconds(self) -> float:
        return 0.0

    @property
    def nets(self) -> Sequence[nn.Module]:
        return [self.net]

    @property
    def head(self) -> nn.Module | None:
        return self.taps.head

    @torch.no_grad()
    def outputs(self, batch: Batch) -> Outputs:
        self._forwards += len(batch.input)
        return self.taps.outputs(batch.input)

    def example_outputs(self, images: Tensor) -> dict[str, Outputs]:
        return {"": self.taps.probe(images)}

    def prepare(
        self, loader: TensorLoader, index: Tensor, report: Callable[[int, int], None]
    ) -> None:
        """Nothing is to be made ready: every batch is looked at when it comes."""
