"""ShuffleNet V2 with a stem for small images.

Ma, Zhang, Zheng & Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
ECCV 2018, https://arxiv.org/abs/1807.11164.

Difference from the paper: the stem is one 3×3 convolution of stride 1 without max pool, so 32×32
images end at 4×4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.models.layers import conv_bn, conv_bn_relu, pooled_classifier
from kd.models.sizing import check_image_size, scaled

_BLOCKS = (4, 8, 4)  # units of each stage, the paper's table 5


class ShuffleUnit(nn.Module):
    """Transform one half of the channels and shuffle both: [B, C, H, W] -> same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = _branch(channels // 2, channels // 2, stride=1)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        identity, transformed = x.chunk(2, 1)  # [B, C / 2, H, W] each
        return self.shuffle(torch.cat([identity, self.body(transformed)], 1))


class DownUnit(nn.Module):
    """Two branches of stride 2 on all channels: [B, C, H, W] -> [B, channels, H / 2, W / 2]."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.shortcut = conv_bn(in_channels, in_channels, stride=2, groups=in_channels)
        self.shortcut.extend(conv_bn_relu(in_channels, half, kernel=1))
        self.body = _branch(in_channels, half, stride=2)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(torch.cat([self.shortcut(x), self.body(x)], 1))


def shufflenet_v2(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    channels: Sequence[int] = (24, 116, 232, 464, 1024),
    width: float = 1.0,
) -> nn.Sequential:
    """Three stages of shuffle units: [B, C, H, W] -> logits [B, K]; down-samples 8 times.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        channels: of the stem, the three stages and the last 1×1 convolution; the default is the
            paper's 1×, its 0.5× is (24, 48, 96, 192, 1024).
        width: factor of all channels.

    Raises:
        ValueError: `channels` are not five.
        UserError: `image_size` is below 8.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(shufflenet_v2(3, 32, 10))
        1263854
    """
    if len(channels) != 5:
        raise ValueError(f"channels must be five (stem, stages, last), got {channels!r}")
    check_image_size("shufflenet_v2", image_size, 8)
    current, *stages, last = (scaled(c, width, 2) for c in channels)
    features = {"stem": conv_bn_relu(in_channels, current)}
    for number, (out_channels, blocks) in enumerate(zip(stages, _BLOCKS, strict=True), 1):
        units = (ShuffleUnit(out_channels) for _ in range(blocks - 1))
        features[f"stage{number}"] = nn.Sequential(DownUnit(current, out_channels), *units)
        current = out_channels
    features["last"] = conv_bn_relu(current, last, kernel=1)
    return pooled_classifier(features, {"fc": nn.Linear(last, num_classes)})


def _branch(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """1×1, depthwise 3×3, 1×1 convolution; no activation after the depthwise one."""
    # Equal widths in all three: the paper's guideline G1, which minimises memory access.
    branch = conv_bn_relu(in_channels, channels, kernel=1)
    branch.extend(conv_bn(channels, channels, stride=stride, groups=channels))
    return branch.extend(conv_bn_relu(channels, channels, kernel=1))
