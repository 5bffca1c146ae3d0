"""What every family asks about sizes: how wide with a multiplier, how small an image may be."""

import torch
from torch import nn

from kd.errors import UserError

_COMMON_SIZES = (8, 16, 32, 64, 96, 128, 192, 224, 256, 299, 384)


def scaled(channels: int, width: float, multiple: int = 1) -> int:
    """`channels` times `width`, rounded (half up) to a multiple of `multiple`, at least one."""
    if not width > 0:
        raise ValueError(f"width must be > 0, got {width!r}")
    return max(1, int(channels * width / multiple + 0.5)) * multiple


def check_image_size(net: str, image_size: int, downsampling: int) -> None:
    """Refuse images whose last map [H / downsampling, W / downsampling] would have no pixel."""
    if image_size < downsampling:
        raise UserError(
            f"{net} down-samples {downsampling} times in all, which leaves nothing of "
            f"{image_size}x{image_size} images; the smallest image size that works is "
            f"{downsampling}"
        )


def check_forward(net: nn.Module, name: str, in_channels: int, image_size: int) -> None:
    """Refuse a net from another library that cannot take [1, in_channels, size, size]."""
    failure = _failure(net, in_channels, image_size)
    if failure is None:
        return
    sizes = (size for size in _COMMON_SIZES if size > image_size)
    works = next((size for size in sizes if _failure(net, in_channels, size) is None), None)
    advice = f"the smallest common size that works is {works}" if works else "no common size works"
    raise UserError(
        f"{name} cannot take {image_size}x{image_size} images, most likely because it down-samples "
        f"them to nothing ({failure}); {advice}"
    )


@torch.no_grad()
def _failure(net: nn.Module, in_channels: int, image_size: int) -> str | None:
    """Run one zero image in eval mode and return the first line of what went wrong."""
    training = net.training
    like = next(net.parameters())
    try:
        net.eval()(like.new_zeros(1, in_channels, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
        return next(iter(str(error).splitlines()), type(error).__name__)
    finally:
        net.train(training)
    return None


def count_parameters(net: nn.Module) -> int:
    """How many numbers the net is trained with, all parameters counted."""
    return sum(parameter.numel() for parameter in net.parameters())
