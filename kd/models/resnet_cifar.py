"""The thin ResNets for CIFAR (He et al. 2016, CVPR, §4.2), depth 6n + 2.

Shortcuts are 1x1 projections where the shape changes (the paper's option B), as in the CIFAR-100
distillation literature since Tian et al. 2020; the paper's CIFAR runs pad with zeros (option A)
and so have slightly fewer parameters.
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
) -> nn.Sequential:
    """Three stages of basic blocks: [B, C, H, W] -> logits [B, K]; down-samples 4 times.

    channels: of the stem and the three stages; (32, 64, 128, 256) is the literature's "x4".
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n+2, got {depth!r}")
    if len(channels) != 4:
        raise ValueError(f"channels must be those of the stem and three stages, got {channels!r}")
    check_image_size(f"resnet{depth}", image_size, 4)
    stem_width, *widths = (scaled(c, width) for c in channels)
    stem = conv_bn_relu(in_channels, stem_width)
    stages = residual_stages(BasicBlock, stem_width, widths, [(depth - 2) // 6] * 3)
    return pooled_classifier({"stem": stem, **stages}, {"fc": nn.Linear(widths[-1], num_classes)})
