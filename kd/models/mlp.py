"""Fully connected nets, as in the MNIST experiment of Hinton, Vinyals & Dean 2015."""

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

    hidden: units of each hidden layer, which `width` scales.
    dropout: rate after each hidden layer (Srivastava et al. 2014); the stage taps lie before it.
    """
    if not hidden:
        raise ValueError(f"hidden must name at least one layer, got {hidden!r}")
    features = in_channels * image_size**2
    net: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, units in enumerate((scaled(h, width) for h in hidden), 1):
        net[f"stage{number}"] = nn.Sequential(nn.Linear(features, units), nn.ReLU())
        net[f"dropout{number}"] = nn.Dropout(dropout)
        features = units
    net["fc"] = nn.Linear(features, num_classes)
    return nn.Sequential(net)
