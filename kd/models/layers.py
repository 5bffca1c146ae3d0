"""What the convolutional families are made of.

Every activation is out of place, so that a forward hook on any module keeps the values it saw.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping

from torch import nn


def conv_bn(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution and batch norm: [B, C, H, W] -> [B, C', ceil(H / stride), ceil(W / stride)]."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
    )


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """`conv_bn` and a ReLU."""
    return conv_bn(in_channels, out_channels, kernel, stride, groups).append(nn.ReLU())


def pooled_classifier(
    features: Mapping[str, nn.Module], head: Mapping[str, nn.Module]
) -> nn.Sequential:
    """Chain named stages, a global average pool and a head: [B, C, H, W] -> logits [B, K].

    Convolutions start as in He et al. 2015 (fan out), linear layers with PyTorch's default.
    """
    pool = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    net = nn.Sequential(OrderedDict({**features, **pool, **head}))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            _he_normal(module)
    return net


def _he_normal(conv: nn.Conv2d) -> None:
    """Draw weights with variance 2 / fan_out; a grouped filter feeds only its group's outputs."""
    fan_out = conv.out_channels * math.prod(conv.kernel_size) / conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
