"""DenseNet-BC with a stem for small images.

Huang, Liu, van der Maaten & Weinberger, "Densely Connected Convolutional Networks", CVPR 2017,
https://arxiv.org/abs/1608.06993.

Variants: `stem="cifar"` is one 3×3 convolution of stride 1, `stem="imagenet"` the paper's for
ImageNet. Blocks, growth rate and compression 0.5 are the paper's ImageNet nets'.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from kd.models.layers import conv_bn_relu, pooled_classifier
from kd.models.sizing import check_image_size, scaled

_BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
# Three transitions halve the maps; the ImageNet stem and its pool do so as well.
_DOWNSAMPLING = {"cifar": 8, "imagenet": 32}


class DenseLayer(nn.Module):
    """BN-ReLU-1×1-BN-ReLU-3×3, appended to its input: [B, C, H, W] -> [B, C + growth, H, W]."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),
            nn.Conv2d(in_channels, 4 * growth, 1, bias=False),  # the bottleneck, "B" of DenseNet-BC
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    depth: int = 121,
    growth: int = 32,
    stem: str = "cifar",
    width: float = 1.0,
) -> nn.Sequential:
    """Four dense blocks: [B, C, H, W] -> logits [B, K].

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        depth: 121, 169 or 201.
        growth: channels that a layer adds; the stem has twice as many.
        stem: "cifar" (3×3, stride 1; the net down-samples 8 times) or "imagenet" (7×7 of stride 2
            and max pool; 32 times).
        width: factor of the growth and the stem's channels.

    Raises:
        ValueError: there is no such depth or stem.
        UserError: `image_size` is below the down-sampling.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(densenet(3, 32, 10, depth=121))
        6956426
    """
    if depth not in _BLOCKS:
        raise ValueError(f"depth must be one of {sorted(_BLOCKS)}, got {depth!r}")
    if stem not in _DOWNSAMPLING:
        raise ValueError(f"stem must be one of {sorted(_DOWNSAMPLING)}, got {stem!r}")
    check_image_size(f"densenet{depth} with stem={stem}", image_size, _DOWNSAMPLING[stem])
    growth = scaled(growth, width)
    features = _stem(in_channels, 2 * growth, stem)
    channels = _add_blocks(features, 2 * growth, growth, _BLOCKS[depth])
    return pooled_classifier(features, {"fc": nn.Linear(channels, num_classes)})


def _stem(in_channels: int, channels: int, stem: str) -> dict[str, nn.Module]:
    if stem == "cifar":
        return {"stem": conv_bn_relu(in_channels, channels)}
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return {"stem": conv_bn_relu(in_channels, channels, kernel=7, stride=2), "stem_pool": pool}


def _add_blocks(
    features: dict[str, nn.Module], channels: int, growth: int, blocks: tuple[int, ...]
) -> int:
    """Add the dense blocks, with transitions in between; return the number of channels."""
    for number, layers in enumerate(blocks, 1):
        steps = range(channels, channels + layers * growth, growth)
        features[f"block{number}"] = nn.Sequential(*(DenseLayer(c, growth) for c in steps))
        channels += layers * growth
        if number < len(blocks):
            features[f"transition{number}"] = _transition(channels, channels // 2)
            channels //= 2  # compression 0.5, "C" of DenseNet-BC
    features |= {"norm": nn.BatchNorm2d(channels), "relu": nn.ReLU()}
    return channels


def _transition(in_channels: int, out_channels: int) -> nn.Sequential:
    """BN-ReLU-1×1-pool: [B, C, H, W] -> [B, out_channels, H // 2, W // 2]."""
    layers = {
        "norm": nn.BatchNorm2d(in_channels),
        "relu": nn.ReLU(),
        "conv": nn.Conv2d(in_channels, out_channels, 1, bias=False),
        "pool": nn.AvgPool2d(2),
    }
    return nn.Sequential(OrderedDict(layers))
