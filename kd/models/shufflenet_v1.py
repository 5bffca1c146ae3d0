"""ShuffleNet with a stem for small images.

Zhang, Zhou, Lin & Sun, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
Devices", CVPR 2018, https://arxiv.org/abs/1707.01083.

Difference from the paper: the stem is one 3×3 convolution of stride 1 without max pool, so 32×32
images end at 4×4.
"""

import torch
from torch import Tensor, nn

from kd.models.layers import conv_bn, conv_bn_relu, pooled_classifier
from kd.models.sizing import check_image_size, scaled

_FIRST_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # by groups, the paper's table 1
_BLOCKS = (4, 8, 4)  # units of each stage


class ShuffleUnit(nn.Module):
    """Grouped 1×1, channel shuffle, depthwise 3×3, grouped 1×1 convolution.

    [B, C, H, W] -> [B, out_channels, H', W']. With C = out_channels the input is added; otherwise
    the stride is 2 and the average-pooled input is concatenated.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int, first_groups: int) -> None:
        super().__init__()
        stride = 1 if in_channels == out_channels else 2
        mid = out_channels // 4  # the bottleneck, as in ResNet
        # With stride 2 the pooled input supplies the first in_channels of the output.
        new = out_channels if stride == 1 else out_channels - in_channels
        self.body = conv_bn_relu(in_channels, mid, kernel=1, groups=first_groups)
        self.body.append(nn.ChannelShuffle(groups))
        self.body.extend(conv_bn(mid, mid, stride=stride, groups=mid))
        self.body.extend(conv_bn(mid, new, kernel=1, groups=groups))
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is None:
            return self.relu(x + self.body(x))
        return self.relu(torch.cat([self.pool(x), self.body(x)], 1))


def shufflenet_v1(
    in_channels: int, image_size: int, num_classes: int, *, groups: int = 3, width: float = 1.0
) -> nn.Sequential:
    """Three stages of shuffle units: [B, C, H, W] -> logits [B, K]; down-samples 8 times.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        groups: of the 1×1 convolutions: 1, 2, 3, 4 or 8. More groups come with more channels, at
            about the same cost (the paper's table 1).
        width: factor of all channels.

    Raises:
        ValueError: there is no such number of groups.
        UserError: `image_size` is below 8.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(shufflenet_v1(3, 32, 10))
        914338
    """
    if groups not in _FIRST_CHANNELS:
        raise ValueError(f"groups must be one of {sorted(_FIRST_CHANNELS)}, got {groups!r}")
    check_image_size("shufflenet_v1", image_size, 8)
    channels = scaled(24, width, groups)
    features = {"stem": conv_bn_relu(in_channels, channels)}
    for number, blocks in enumerate(_BLOCKS):
        out_channels = scaled(_FIRST_CHANNELS[groups] * 2**number, width, 4 * groups)
        features[f"stage{number + 1}"] = stage = nn.Sequential()
        for _ in range(blocks):
            # No groups in the very first unit, as in the paper: its input has 24 channels only.
            first_groups = 1 if number == 0 and len(stage) == 0 else groups
            stage.append(ShuffleUnit(channels, out_channels, groups, first_groups))
            channels = out_channels
    return pooled_classifier(features, {"fc": nn.Linear(channels, num_classes)})
