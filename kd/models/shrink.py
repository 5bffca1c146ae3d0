"""Shrinking of a net's layers to the shapes of a channel-pruned student's weights."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

# Kinds of layers whose channels pruning removes, see kd.deploy.compression.groups
_Layer = nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d | nn.PReLU


def shrink_to(net: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Replace tensors of a net by zeros of smaller shapes, in place, on the same device.

    Whether the shapes fit each other shows in the forward pass of the net.

    Args:
        net: as its constructor builds it.
        shapes: of the tensors of its state dict by name; tensors of other names are left alone.

    Raises:
        ValueError: a shape is not that of a layer with fewer channels.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> shrink_to(net, {"0.weight": [3, 4], "0.bias": [3], "1.weight": [2, 3], "1.bias": [2]})
        >>> net
        Sequential(
          (0): Linear(in_features=4, out_features=3, bias=True)
          (1): Linear(in_features=3, out_features=2, bias=True)
        )
    """
    for path, module in net.named_modules():
        prefix = f"{path}." if path else ""
        changed = [_shrink(module, prefix, name, tensor, shapes) for name, tensor in _own(module)]
        if any(changed):
            _set_sizes(path, module)


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the parameters and buffers of a module without those of its children."""
    return [
        *module.named_parameters(recurse=False, remove_duplicate=False),
        *module.named_buffers(recurse=False, remove_duplicate=False),
    ]


def _shrink(
    module: nn.Module, prefix: str, name: str, tensor: Tensor, shapes: Mapping[str, Sequence[int]]
) -> bool:
    old, new = list(tensor.shape), list(shapes.get(prefix + name, tensor.shape))
    if new == old:
        return False
    # Of a weight [out, in, height, width] the channels may be fewer.
    fits = len(new) == len(old) and new[2:] == old[2:]
    if not fits or not all(1 <= n <= o for n, o in zip(new, old, strict=True)):
        raise ValueError(f"{prefix}{name} has the shape {new}, and the net {old}")
    if not isinstance(module, _Layer):
        kind = type(module).__name__
        raise ValueError(f"{prefix}{name} has the shape {new}, and {kind} keeps its {old}")
    zeros = torch.zeros(new, dtype=tensor.dtype, device=tensor.device)
    is_parameter = isinstance(tensor, nn.Parameter)
    setattr(module, name, nn.Parameter(zeros, tensor.requires_grad) if is_parameter else zeros)
    return True


def _set_sizes(path: str, module: nn.Module) -> None:
    """Set the numbers that a layer keeps beside its tensors."""
    if isinstance(module, nn.Conv2d):
        _set_channels(path, module)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        tensors = dict(_own(module))
        sizes = {len(tensor) for tensor in tensors.values() if tensor.dim() == 1}
        if len(sizes) != 1:
            raise ValueError(f"the tensors of {path} have different sizes: {sorted(sizes)}")
        (module.num_features,) = sizes
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def _set_channels(path: str, conv: nn.Conv2d) -> None:
    depthwise = conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels
    if conv.groups > 1 and not depthwise:
        raise ValueError(f"{path} is a grouped convolution, which keeps its channels")
    conv.out_channels, inputs = conv.weight.shape[:2]
    if depthwise:
        conv.groups = conv.out_channels
    conv.in_channels = inputs * conv.groups
