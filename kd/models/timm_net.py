"""Nets of timm by name; timm is an optional dependency.

Wightman, "PyTorch Image Models", 2019, https://github.com/huggingface/pytorch-image-models.
"""

from difflib import get_close_matches
from typing import Any

from torch import nn

from kd.errors import UserError
from kd.models.sizing import check_forward
from kd.models.timm_parts import import_timm


def timm_net(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    arch: str,
    pretrained: bool = False,
    **options: Any,
) -> nn.Module:
    """`timm.create_model(arch)`: [B, C, H, W] -> logits [B, K].

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        arch: name in `timm.list_models()`.
        pretrained: download timm's weights; timm adapts the first layer to C and initialises the
            classifier at random.
        options: of `timm.create_model`, such as `patch_size` or `drop_path_rate`. `img_size` is set
            for nets that are built for one size.

    Raises:
        UserError: timm is not installed, the architecture or an option does not exist, or the net
            cannot take images of this size.
    """
    timm = import_timm("timm")
    if not timm.is_model(arch):
        raise UserError(_unknown(arch, timm.list_models()))
    config = timm.get_pretrained_cfg(arch, allow_unregistered=False)
    if config is not None and config.fixed_input_size:
        options = {"img_size": image_size} | options
    facts = {"in_chans": in_channels, "num_classes": num_classes}
    try:
        net: nn.Module = timm.create_model(arch, pretrained=pretrained, **facts, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError, OSError) as error:
        raise UserError(
            f"timm {arch!r} at {image_size}x{image_size} with {options}: {error}"
        ) from error
    check_forward(net, f"timm {arch!r}", in_channels, image_size)
    return net


def _unknown(arch: str, names: list[str]) -> str:
    """Return a message with the closest five of more than a thousand names."""
    close = get_close_matches(arch, names, n=5, cutoff=0.5)
    hint = f"did you mean one of {', '.join(close)}? " if close else ""
    return f"unknown timm architecture {arch!r}; {hint}timm.list_models() names all {len(names)}"
