"""The ResNets for CIFAR, of depth 6n + 2.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, §4.2,
https://arxiv.org/abs/1512.03385.

Difference from the paper: shortcuts are 1×1 projections where the shape changes (its option B), as
in the CIFAR-100 distillation literature since Tian et al. 2020 (https://arxiv.org/abs/1910.10699).
The paper's CIFAR nets pad with zeros (option A, `shortcut="pad"`) and have slightly fewer
parameters.
"""

from collections.abc import Sequence

from torch import nn

from kd.models.layers import conv_bn_relu, pooled_classifier
from kd.models.resnet import BasicBlock, residual_stages
from kd.models.sizing import check_image_size, scaled


def resnet_cifar(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    depth: int = 20,
    channels: Sequence[int] = (16, 16, 32, 64),
    width: float = 1.0,
    shortcut: str = "projection",
) -> nn.Sequential:
    """Three stages of basic blocks: [B, C, H, W] -> logits [B, K]; down-samples 4 times.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        depth: 6n + 2, at least 8.
        channels: of the stem and the three stages; (32, 64, 128, 256) is the literature's "x4".
        width: factor of all channels.
        shortcut: `projection` or `pad`, where the shape changes.

    Raises:
        ValueError: `depth`, `shortcut` or the number of `channels` is impossible.
        UserError: `image_size` is below 4.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(resnet_cifar(3, 32, 10, depth=20))
        272474
        >>> count_parameters(resnet_cifar(1, 8, 10, depth=20))
        272186
        >>> count_parameters(resnet_cifar(3, 32, 10, depth=20, shortcut="pad"))
        269722
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n+2, got {depth!r}")
    if len(channels) != 4:
        raise ValueError(f"channels must be those of the stem and three stages, got {channels!r}")
    if shortcut not in ("projection", "pad"):
        raise ValueError(f"shortcut must be projection or pad, got {shortcut!r}")
    check_image_size(f"resnet{depth}", image_size, 4)
    stem_width, *widths = (scaled(c, width) for c in channels)
    stem = conv_bn_relu(in_channels, stem_width)
    stages = residual_stages(BasicBlock, stem_width, widths, [(depth - 2) // 6] * 3, shortcut)
    return pooled_classifier({"stem": stem, **stages}, {"fc": nn.Linear(widths[-1], num_classes)})
