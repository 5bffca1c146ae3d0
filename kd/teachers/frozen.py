"""The teacher of an offline run: a net that answers and never changes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.taps import Taps
from kd.trace import Batch, Trace


class FrozenTeacher(nn.Module):
    """A trained net in eval mode, without gradients, whose weights no checkpoint contains.

    Args:
        net: the trained net; its parameters are frozen in place.
        places: canonical tap name -> module path.
        wanted: the taps to record.

    Attributes:
        forwards: how many images the net has processed.
        answers: how its traces come about, for result.json.
        seconds: spent in answering in advance: none.
    """

    def __init__(self, net: nn.Module, places: Mapping[str, str], wanted: Iterable[str]) -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.taps = Taps(net, places, wanted)
        self.forwards = 0
        self.answers, self.seconds = "live", 0.0
        self.train(False)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in eval mode, whatever the module around says."""
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Return no weights: they lie in the teacher's own file, once for all its students."""
        return {} if destination is None else destination

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @torch.no_grad()
    def trace(self, batch: Batch) -> Trace:
        """Answer a batch: logits [B, K] and the wanted taps, without gradients."""
        self.forwards += len(batch.input)
        return self.taps.trace(batch.input)

    def prepare(
        self, loader: TensorLoader, index: Tensor, report: Callable[[int, int], None]
    ) -> None:
        """Nothing is to be made ready for an epoch: every batch is looked at when it comes."""
