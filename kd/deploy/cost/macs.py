"""Multiply-accumulate operations of a forward pass."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_macs(run: Callable[[Tensor], object], example: Tensor) -> int:
    """Count the multiply-accumulate operations (MACs) of one call.

    torch's counter counts a multiplication and an addition as two operations, so that MACs are half
    of its FLOPs. It counts convolutions, matrix products and attention; biases, normalisation,
    activations and pooling are not counted, as usual in papers.

    Args:
        run: a net in eval mode.
        example: one image [1, C, H, W]; the count of a batch is proportional to its images.

    Example:
        >>> count_macs(torch.nn.Conv2d(3, 16, 3, padding=1), torch.zeros(1, 3, 32, 32))
        442368
        >>> 32 * 32 * 16 * 3 * 3 * 3
        442368
    """
    # The counter has no formula for the fused attention of CPUs, and would count nothing.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(example)
    return int(counter.get_total_flops()) // 2
