"""Cost of a net at inference: size, operations, time and memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kd.deploy.cost.latency import Latency, measure
from kd.deploy.cost.macs import count_macs
from kd.deploy.cost.memory import peak_bytes

BATCHES = (1, 64)


@dataclass(frozen=True)
class Cost:
    """Cost of a net, measured on normalised images, or on token ids of full length.

    Attributes:
        parameters: of the net at inference.
        macs: multiply-accumulate operations of one sample.
        file_bytes: size of its weights file.
        weight_bytes: of its parameters and buffers in memory.
        latency: by batch size.
        peak_bytes: of the tensors that a call allocates at a time, by batch size.
        device: on which time and memory were measured.
    """

    parameters: int
    macs: int
    file_bytes: int
    weight_bytes: int
    latency: dict[int, Latency]
    peak_bytes: dict[int, int]
    device: str

    @property
    def noisy(self) -> bool:
        """Whether the machine was too busy for one of the latencies."""
        return any(latency.noisy for latency in self.latency.values())


@torch.no_grad()
def measure_cost(
    run: Callable[[Tensor], object],
    sample: Tensor,
    *,
    parameters: int,
    file_bytes: int,
    weight_bytes: int,
    batches: Sequence[int] = BATCHES,
) -> Cost:
    """Measure a net.

    Args:
        run: images [B, C, H, W] or token ids [B, L] -> logits; in eval mode, on their device.
        sample: a normalised image [C, H, W], or token ids [L].
        parameters, file_bytes, weight_bytes: as in `Cost`.
        batches: batch sizes for time and memory.
    """
    examples = {batch: sample.expand(batch, *sample.shape).contiguous() for batch in batches}
    wait = _wait_for(sample.device)
    return Cost(
        parameters=parameters,
        macs=count_macs(run, sample[None]),
        file_bytes=file_bytes,
        weight_bytes=weight_bytes,
        latency={b: measure(run, each, synchronise=wait) for b, each in examples.items()},
        peak_bytes={batch: peak_bytes(run, each) for batch, each in examples.items()},
        device=sample.device.type,
    )


def _wait_for(device: torch.device) -> Callable[[], None] | None:
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    return torch.mps.synchronize if device.type == "mps" else None
