"""Peak memory of the tensors of a forward pass."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from kd.io.documents import parse_json

_CPU = 0  # "Device Type" of a memory event


def tensor_bytes(net: nn.Module) -> int:
    """Return the bytes of the parameters and buffers of a net; shared ones count once.

    Example:
        >>> tensor_bytes(nn.Linear(3, 2))
        32
    """
    return sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))


@torch.no_grad()
def peak_bytes(run: Callable[[Tensor], object], example: Tensor) -> int:
    """Return the most bytes of tensors that one call allocates at a time, its output included.

    On the CPU torch's profiler records every allocation and every release of torch's allocator, so
    that the number is the same in every call. The resident set of the process would tell little: it
    holds 300 MB of libraries, and the allocator returns memory to the system when it likes. Weights
    and example are not counted, nor is what an operation allocates outside torch.

    Args:
        run: a net in eval mode.
        example: a batch [B, C, H, W].

    Example:
        >>> peak_bytes(nn.Sequential(nn.Flatten(), nn.Linear(4, 8)), torch.zeros(2, 1, 2, 2))
        64
    """
    run(example)  # what is allocated once, such as reordered weights, is not of a call
    if example.device.type == "cuda":
        return _peak_on_gpu(run, example)
    # The profiler's library prints to the terminal, for example that there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        output = run(example)
    del output
    return _highest(_changes(profiler))


def _peak_on_gpu(run: Callable[[Tensor], object], example: Tensor) -> int:
    torch.cuda.reset_peak_memory_stats(example.device)
    before = torch.cuda.memory_allocated(example.device)
    run(example)
    torch.cuda.synchronize(example.device)
    return torch.cuda.max_memory_allocated(example.device) - before


def _changes(profiler: Any) -> Iterator[int]:
    """Yield the bytes of each allocation, negative for a release, in the order of time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = parse_json(path.read_text())["traceEvents"]
    memory = [event for event in events if event.get("name") == "[memory]"]
    for event in sorted(memory, key=lambda event: event["ts"]):
        if event["args"]["Device Type"] == _CPU:
            yield int(event["args"]["Bytes"])


def _highest(changes: Iterator[int]) -> int:
    total = highest = 0
    for change in changes:
        total += change
        highest = max(highest, total)
    return highest
