"""VGG with batch norm for small images.

Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, https://arxiv.org/abs/1409.1556.

Variants: vgg8, 11 and 13 follow the CIFAR-100 distillation literature (Tian et al. 2020,
https://arxiv.org/abs/1910.10699) with three max pools at 32×32, a global average pool and one
linear layer. `conf/model/vgg16.yaml` keeps the paper's five pools and three linear layers, with 512
instead of 4096 units.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from kd.models.layers import conv_bn_relu, pooled_classifier
from kd.models.sizing import check_image_size, scaled

_CHANNELS = (64, 128, 256, 512, 512)  # of the five stages
# Convolutions in each stage; 11, 13 and 16 are the paper's columns A, B and D.
_CONVS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}


def vgg(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    depth: int = 8,
    pools: int = 3,
    hidden: Sequence[int] = (),
    dropout: float = 0.5,
    width: float = 1.0,
) -> nn.Sequential:
    """Five stages of 3×3 convolutions: [B, C, H, W] -> logits [B, K].

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        depth: 8, 11, 13 or 16.
        pools: the first `pools` stages are followed by a 2×2 max pool; down-samples 2**pools times.
        hidden: units of the linear layers in front of the classifier, each with ReLU and dropout.
        dropout: rate after the hidden layers.
        width: factor of all channels and hidden units.

    Raises:
        ValueError: there is no such depth, or `pools` is not 0 to 5.
        UserError: `image_size` is below 2**pools.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(vgg(3, 32, 10, depth=8))
        3917386
    """
    if depth not in _CONVS:
        raise ValueError(f"depth must be one of {sorted(_CONVS)}, got {depth!r}")
    if pools not in range(6):
        raise ValueError(f"pools must be 0 to 5, got {pools!r}")
    check_image_size(f"vgg{depth} with {pools} pools", image_size, 2**pools)
    channels = [scaled(c, width) for c in _CHANNELS]
    features = _stages(in_channels, channels, _CONVS[depth], pools)
    units = [channels[-1], *(scaled(h, width) for h in hidden)]
    fc = nn.Linear(units[-1], num_classes)
    return pooled_classifier(features, {"hidden": _hidden(units, dropout), "fc": fc})


def _stages(
    in_channels: int, channels: Sequence[int], convs: Sequence[int], pools: int
) -> dict[str, nn.Module]:
    """Return stages and pools as separate modules: a stage's output is the map before its pool."""
    features: dict[str, nn.Module] = {}
    for number, (out_channels, count) in enumerate(zip(channels, convs, strict=True), 1):
        stage = nn.Sequential()
        for _ in range(count):
            stage.append(conv_bn_relu(in_channels, out_channels))
            in_channels = out_channels
        features[f"stage{number}"] = stage
        if number <= pools:
            features[f"pool{number}"] = nn.MaxPool2d(2)
    return features


def _hidden(units: Sequence[int], dropout: float) -> nn.Sequential:
    """Return linear-ReLU-dropout for each pair of `units`; no layers for a single number."""
    layers = nn.Sequential()
    for i, o in pairwise(units):
        layers.extend([nn.Linear(i, o), nn.ReLU(), nn.Dropout(dropout)])
    return layers
