"""Multiply-accumulate operations of a forward pass."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_macs(run: Callable[[Tensor], object], example: Tensor) -> int:
    """Count the multiply-accumulate operations (MACs) of one call.

    torch's counter counts a multiplication and an addition as two operations, so that MACs are half
    of its FLOPs. It counts convolutions, matrix products and attention; biases, normalisation,
    activations and pooling are not counted, as usual in papers. Recurrent layers, which torch runs
    as one operation, are counted by their matrix products.

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
    counting = FlopCounterMode(display=False, custom_mapping=_RECURRENT)
    with sdpa_kernel(SDPBackend.MATH), counting as counter:
        run(example)
    return int(counter.get_total_flops()) // 2


def _layer_flops(
    input_shape: Any, input_weight: Any, hidden_weight: Any, *_: Any, **__: Any
) -> int:
    """FLOPs of one recurrent layer in one direction: each step multiplies by both matrices."""
    steps = input_shape[0] * input_shape[1]
    return int(2 * steps * sum(rows * columns for rows, columns in (input_weight, hidden_weight)))


def _stack_flops(input_shape: Any, weights: Any, *_: Any, **__: Any) -> int:
    """FLOPs of a stack of recurrent layers with these weights; biases have one dimension."""
    steps = input_shape[0] * input_shape[1]
    return int(2 * steps * sum(shape[0] * shape[1] for shape in weights if len(shape) == 2))


_FLOPS = {"mkldnn_rnn_layer": _layer_flops, "_cudnn_rnn": _stack_flops}  # on CPUs, on GPUs
_RECURRENT = {getattr(torch.ops.aten, name): flops for name, flops in _FLOPS.items()}
