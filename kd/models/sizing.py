"""Channel widths, image sizes and parameter counts."""

import torch
from torch import nn

from kd.errors import UserError

# Image sizes of usual data sets and of published weights, up to Inception's and ViT's
_COMMON_SIZES = (8, 16, 32, 64, 96, 128, 192, 224, 256, 299, 384)


def scaled(channels: int, width: float, multiple: int = 1) -> int:
    """Return `channels` · `width`, rounded half up to a positive multiple of `multiple`.

    Raises:
        ValueError: `width` is not positive.

    Example:
        >>> scaled(25, 0.5), scaled(20, 1.0, multiple=8), scaled(16, 0.01)
        (13, 24, 1)
    """
    if not width > 0:
        raise ValueError(f"width must be > 0, got {width!r}")
    return max(1, int(channels * width / multiple + 0.5)) * multiple


def check_counts(**counts: int | None) -> None:
    """Refuse numbers below 1; None stands for a default.

    Raises:
        ValueError: names the first.

    Example:
        >>> check_counts(dim=64, inner=None)
        >>> check_counts(dim=0)
        Traceback (most recent call last):
        ValueError: dim must be ≥ 1, got 0
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be ≥ 1, got {count!r}")


def check_image_size(net: str, image_size: int, downsampling: int) -> None:
    """Refuse images of which a net's last map [H / downsampling, W / downsampling] is empty.

    Args:
        net: its name, for the message.
        image_size: H and W.
        downsampling: product of all strides.

    Raises:
        UserError: `image_size` is smaller than `downsampling`.
    """
    if image_size < downsampling:
        raise UserError(
            f"{net} down-samples {downsampling} times, which leaves no pixel of "
            f"{image_size}x{image_size} images; the smallest image size that works is "
            f"{downsampling}"
        )


def check_forward(net: nn.Module, name: str, in_channels: int, image_size: int) -> None:
    """Refuse a net of another library that fails on images [1, in_channels, size, size].

    Args:
        net: the net.
        name: for the message.
        in_channels: C.
        image_size: H and W.

    Raises:
        UserError: the forward pass fails; names the smallest common image size that works.
    """
    failure = _failure(net, in_channels, image_size)
    if failure is None:
        return
    sizes = (size for size in _COMMON_SIZES if size > image_size)
    works = next((size for size in sizes if _failure(net, in_channels, size) is None), None)
    hint = f"the smallest common size that works is {works}" if works else "no common size works"
    raise UserError(
        f"{name} cannot take {image_size}x{image_size} images, most likely because it down-samples "
        f"them to an empty map ({failure}); {hint}"
    )


@torch.no_grad()
def _failure(net: nn.Module, in_channels: int, image_size: int) -> str | None:
    """Run one zero image in eval mode; return the first line of the error, or None."""
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
    """Return the number of parameters, frozen ones included; buffers do not count.

    Example:
        >>> count_parameters(nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)))
        480
    """
    return sum(parameter.numel() for parameter in net.parameters())
