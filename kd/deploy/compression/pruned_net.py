"""Nets with fewer channels than their constructor builds, rebuilt for the weights of a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd.errors import UserError
from kd.models.shrink import shrink_to


def shrunk(
    net: nn.Module, arguments: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], file: Path
) -> nn.Module:
    """Shrink a net to the shapes of a file's tensors, and give it zeros as weights.

    The file may come from a stranger. Its shapes are tried on the meta device: tensors that fit no
    layer, or not each other, are refused before any memory is used.

    Args:
        net: on the meta device.
        arguments: of its constructor: in_channels, image_size, num_classes.
        shapes: of the tensors in the file by name.
        file: for messages.

    Returns:
        The net on the CPU; its weights are zeros.

    Raises:
        UserError: the shapes do not fit the net or each other.
    """
    missing = net.state_dict().keys() - shapes.keys()
    constants = {name for name, _ in net.named_buffers()} - net.state_dict().keys()
    if missing or constants:
        named = ", ".join(sorted(missing | constants)[:3])
        raise UserError(f"{file}: the file does not hold all of its net: {named} is missing")
    channels, size = arguments["in_channels"], arguments["image_size"]
    try:
        shrink_to(net, shapes)
        images = torch.zeros(2, channels, size, size, device="meta")
        with torch.no_grad():
            logits = net.eval()(images)
        if list(logits.shape) != [2, arguments["num_classes"]]:
            raise ValueError(f"logits have the shape {list(logits.shape)}")
    except Exception as error:  # what shapes of a stranger lead to
        raise UserError(f"{file}: the shapes of its tensors do not fit the net: {error}") from None
    return _on_cpu(net.train())


def _on_cpu(net: nn.Module) -> nn.Module:
    net.to_empty(device="cpu")
    for tensor in net.state_dict().values():
        tensor.zero_()
    return net
