"""Precision in which losses are computed."""

import torch
from torch import Tensor


def upcast(tensor: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; return any other tensor unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
