"""Multi-layer perceptrons of the MNIST experiment of knowledge distillation.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531: a teacher with two hidden layers of 1200 units and dropout, and a
student with 800 units. The weight constraints of the paper are not implemented.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from kd.models.sizing import scaled


def mlp(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    hidden: Sequence[int] = (1200, 1200),
    dropout: float = 0.5,
    width: float = 1.0,
) -> nn.Sequential:
    """Linear layers with ReLU on the flattened image: [B, C, H, W] -> logits [B, K].

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        hidden: units of each hidden layer.
        dropout: rate after each hidden layer; `stage1`, … are the layers in front of it.
        width: factor of `hidden`.

    Raises:
        ValueError: `hidden` is empty.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(mlp(1, 28, 10, hidden=(1200, 1200)))
        2395210
    """
    if not hidden:
        raise ValueError(f"hidden must name at least one layer, got {hidden!r}")
    features = in_channels * image_size**2
    net: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, units in enumerate((scaled(h, width) for h in hidden), 1):
        net[f"stage{number}"] = nn.Sequential(nn.Linear(features, units), nn.ReLU())
        # A module of its own: taps of a stage then record features without dropout.
        net[f"dropout{number}"] = nn.Dropout(dropout)
        features = units
    net["fc"] = nn.Linear(features, num_classes)
    return nn.Sequential(net)
