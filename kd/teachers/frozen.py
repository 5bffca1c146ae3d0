"""The teacher of an offline run: a net that answers and never changes."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

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
    """

    def __init__(self, net: nn.Module, places: Mapping[str, str], wanted: Iterable[str]) -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.taps = Taps(net, places, wanted)
        self.forwards = 0
        self.train(False)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in eval mode, whatever the module around says."""
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, **kwargs: Any) -> Any:
        """Return no weights: they lie in the teacher's own file, once for all its students."""
        return {} if destination is None else destination

    @torch.no_grad()
    def trace(self, batch: Batch) -> Trace:
        """Answer a batch: logits [B, K] and the wanted taps, without gradients."""
        self.forwards += len(batch.input)
        return self.taps.trace(batch.input)

    @torch.inference_mode()
    def predict(self, loader: Iterable[Batch], device: torch.device) -> tuple[Tensor, Tensor]:
        """Answer a whole split in the loader's order.

        Returns:
            Logits [N, K] in float32 and labels [N], both on the CPU.
        """
        self.to(device)
        logits, targets = [], []
        for batch in loader:
            answer = self.trace(Batch(*(tensor.to(device) for tensor in batch)))
            logits.append(answer.logits.float().cpu())
            targets.append(batch.target.cpu())
        return torch.cat(logits), torch.cat(targets)
