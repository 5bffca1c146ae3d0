"""Affine layers behind a feature map, merged into the head that follows them."""

import copy
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def is_plain(head: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a head is a linear layer with weight and bias, and nothing else.

    A subclass, or a layer with parametrisations or masks, computes its weight from other tensors.
    """
    if type(head) is not nn.Linear:
        return False
    return all(isinstance(tensor, nn.Parameter) for tensor in (head.weight, head.bias))


def is_average(embedding: Tensor, maps: Tensor) -> bool:
    """Whether vectors [B, D] are the averages of maps [B, C, H, W] over positions."""
    average = maps.mean((2, 3))
    atol = 1e-3 * float(average.abs().max())
    return average.shape == embedding.shape and torch.allclose(embedding, average, 1e-3, atol)


@torch.no_grad()
def merged(head: nn.Linear, *layers: nn.Module) -> tuple[Tensor, Tensor]:
    """Return weight and bias of one layer that computes head(f + average of layers(F)).

    Args:
        head: its input [B, D] is f, the average of a map F [B, D, H, W] over positions.
        layers: applied in turn to F; convolutions of one position and batch norms, which are taken
            in evaluation mode. The last one has D channels.

    Returns:
        [K, D] and [K], float64, on the CPU.

    Example:
        f + 2·f is 3·f:

        >>> head, double = nn.Linear(1, 1), nn.Conv2d(1, 1, 1)
        >>> for layer, factor in ((head, 1.0), (double, 2.0)):
        ...     _ = nn.init.constant_(layer.weight, factor), nn.init.zeros_(layer.bias)
        >>> merged(head, double)[0]
        tensor([[3.]], dtype=torch.float64)
    """
    added = nn.Sequential(*(copy.deepcopy(layer).cpu().double().eval() for layer in layers))
    weight, bias = head.weight.cpu().double(), head.bias.cpu().double()
    # An affine map is its value at 0 and what each unit vector adds to it.
    width = head.in_features
    rows = torch.cat([torch.zeros(1, width), torch.eye(width)]).double()
    values = F.linear(rows + added(rows[:, :, None, None]).flatten(1), weight, bias)
    return (values[1:] - values[0]).T, values[0]
