"""Layers and initialisation that the convolutional families share.

Activations are out of place: a forward hook on any module records a tensor that no later in-place
operation overwrites.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping

from torch import nn


def conv_bn(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution and batch norm: [B, C, H, W] -> [B, C', ⌈H / stride⌉, ⌈W / stride⌉].

    The padding is kernel // 2, and batch norm makes a bias redundant.

    Example:
        >>> import torch
        >>> conv_bn(3, 8, stride=2)(torch.zeros(1, 3, 9, 9)).shape
        torch.Size([1, 8, 5, 5])
    """
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """`conv_bn` followed by ReLU."""
    return conv_bn(in_channels, out_channels, kernel, stride, groups).append(nn.ReLU())


def pooled_classifier(
    features: Mapping[str, nn.Module], head: Mapping[str, nn.Module]
) -> nn.Sequential:
    """Chain named stages, a global average pool and a head: [B, C, H, W] -> logits [B, K].

    Convolutions are initialised as in He et al. 2015 (https://arxiv.org/abs/1502.01852, fan out),
    linear layers with PyTorch's default.

    Args:
        features: stages by name, in order; the names are module paths for taps.
        head: layers after the pool by name.
    """
    pool = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    net = nn.Sequential(OrderedDict({**features, **pool, **head}))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            _he_normal(module)
    return net


def _he_normal(conv: nn.Conv2d) -> None:
    """Draw weights from N(0, 2 / fan_out)."""
    # torch's kaiming_normal_ ignores groups: for a depthwise convolution its fan_out is C times
    # too large, since a filter reaches the output channels of its own group only.
    fan_out = conv.out_channels * math.prod(conv.kernel_size) / conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
