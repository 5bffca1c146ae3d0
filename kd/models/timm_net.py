"""Any net of timm (Wightman 2019), by its name there; timm is an optional dependency."""

from difflib import get_close_matches
from typing import Any

from torch import nn

from kd.errors import UserError
from kd.models.sizing import check_forward


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

    pretrained: fetch timm's weights; timm adapts the first layer to C and starts the classifier
        fresh.
    options: passed on to timm, such as `patch_size` or `drop_path_rate`. `img_size` is set for the
        nets that are built for one size.
    """
    timm = _import_timm()
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


def _import_timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(
            "model=timm needs timm, which is not installed; pip install 'kd[timm]'"
        ) from error
    return timm


def _unknown(arch: str, names: list[str]) -> str:
    """Name a few, of more than a thousand."""
    close = get_close_matches(arch, names, n=5, cutoff=0.5)
    hint = f"did you mean one of {', '.join(close)}? " if close else ""
    return f"unknown timm architecture {arch!r}; {hint}timm.list_models() names all {len(names)}"
