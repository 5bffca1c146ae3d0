"""ResNet-18/34/50 with a stem for small images, and residual blocks.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385.

Differences from the paper: the stem is one 3×3 convolution of stride 1 without max pool, so 32×32
images end at 4×4. The bottleneck has its stride in the 3×3 convolution, as in torchvision ("v1.5"),
instead of the first 1×1.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.layers import conv_bn, conv_bn_relu, pooled_classifier
from kd.models.sizing import check_image_size, scaled


class BasicBlock(nn.Module):
    """Two 3×3 convolutions: [B, C, H, W] -> [B, channels, H / stride, W / stride]."""

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int, shortcut: str = "projection"
    ) -> None:
        super().__init__()
        self.body = conv_bn_relu(in_channels, channels, stride=stride)
        self.body.extend(conv_bn(channels, channels))
        self.shortcut = _shortcut(in_channels, channels, stride, shortcut)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1: [B, C, H, W] -> [B, 4 · channels, H / stride, W / stride]."""

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int, shortcut: str = "projection"
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.body = conv_bn_relu(in_channels, channels, kernel=1)
        self.body.extend(conv_bn_relu(channels, channels, stride=stride))
        self.body.extend(conv_bn(channels, out_channels, kernel=1))
        self.shortcut = _shortcut(in_channels, out_channels, stride, shortcut)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))


_CHANNELS = (64, 128, 256, 512)  # of the four stages; bottlenecks have four times as many
# Block and number of blocks in each stage: the paper's table 1
_DEPTHS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


def resnet(
    in_channels: int, image_size: int, num_classes: int, *, depth: int = 18, width: float = 1.0
) -> nn.Sequential:
    """Four stages of residual blocks: [B, C, H, W] -> logits [B, K]; down-samples 8 times.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        depth: 18, 34 or 50.
        width: factor of all channels.

    Raises:
        ValueError: there is no such depth.
        UserError: `image_size` is below 8.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(resnet(3, 32, 10, depth=18))
        11173962
    """
    if depth not in _DEPTHS:
        raise ValueError(f"depth must be one of {sorted(_DEPTHS)}, got {depth!r}")
    check_image_size(f"resnet{depth}", image_size, 8)
    block, blocks = _DEPTHS[depth]
    channels = [scaled(c, width) for c in _CHANNELS]
    stem = conv_bn_relu(in_channels, channels[0])
    stages = residual_stages(block, channels[0], channels, blocks)
    fc = nn.Linear(channels[-1] * block.expansion, num_classes)
    return pooled_classifier({"stem": stem, **stages}, {"fc": fc})


def residual_stages(
    block: type[BasicBlock | Bottleneck],
    in_channels: int,
    channels: Sequence[int],
    blocks: Sequence[int],
    shortcut: str = "projection",
) -> dict[str, nn.Sequential]:
    """Build stage1, stage2, …; the first block of each but the first has stride 2.

    Args:
        block: its class.
        in_channels: of the stem.
        channels: of each stage.
        blocks: number of blocks in each stage.
        shortcut: `projection` or `pad`, where the shape changes.
    """
    stages = {}
    for number, (c, n) in enumerate(zip(channels, blocks, strict=True), 1):
        stage = nn.Sequential()
        for index in range(n):
            # stage1 keeps the stem's resolution: a small image allows no further reduction.
            stride = 2 if number > 1 and index == 0 else 1
            stage.append(block(in_channels, c, stride, shortcut))
            in_channels = c * block.expansion
        stages[f"stage{number}"] = stage
    return stages


class PaddedShortcut(nn.Module):
    """Every second pixel, and zeros for the new channels (the paper's option A).

    Args:
        in_channels: C.
        out_channels: C'; half of the new channels come before the old ones, as in the public
            CIFAR ResNets (https://github.com/akamaster/pytorch_resnet_cifar10).
        stride: of the block.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        before = (out_channels - in_channels) // 2
        self.stride, self.padding = stride, (before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.padding))


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: str) -> nn.Module:
    """Return the identity, or, if the shape changes, a 1×1 projection (option B) or padding."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    if kind == "pad":
        return PaddedShortcut(in_channels, out_channels, stride)
    return conv_bn(in_channels, out_channels, kernel=1, stride=stride)
