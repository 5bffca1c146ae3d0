"""Teacher and student of PyTorch's knowledge distillation tutorial.

https://docs.pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html: two stages of 3×3
convolutions, each with a 2×2 max pool, and one hidden linear layer on the flattened map; no batch
norm. Initialisation is PyTorch's default, as in the tutorial.
"""

from collections import OrderedDict

from torch import nn

from kd.models.sizing import check_image_size, scaled


def deepnn(
    in_channels: int, image_size: int, num_classes: int, *, width: float = 1.0, dropout: float = 0.1
) -> nn.Sequential:
    """The tutorial's teacher: [B, C, H, W] -> logits [B, K]; four convolutions, 512 hidden units.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        width: factor of the channels and hidden units.
        dropout: rate after the hidden layer.

    Raises:
        UserError: `image_size` is below 4.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(deepnn(3, 32, 10))
        1186986
    """
    stages = ((128, 64), (64, 32))
    return _tutorial_cnn(
        "deepnn", in_channels, image_size, num_classes, stages, 512, width, dropout
    )


def lightnn(
    in_channels: int, image_size: int, num_classes: int, *, width: float = 1.0, dropout: float = 0.1
) -> nn.Sequential:
    """The tutorial's student: [B, C, H, W] -> logits [B, K]; two convolutions, 256 hidden units.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        width: factor of the channels and hidden units.
        dropout: rate after the hidden layer.

    Raises:
        UserError: `image_size` is below 4.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(lightnn(3, 32, 10))
        267738
    """
    stages = ((16,), (16,))
    return _tutorial_cnn(
        "lightnn", in_channels, image_size, num_classes, stages, 256, width, dropout
    )


def _tutorial_cnn(
    name: str,
    in_channels: int,
    image_size: int,
    num_classes: int,
    stages: tuple[tuple[int, ...], ...],
    hidden: int,
    width: float,
    dropout: float,
) -> nn.Sequential:
    downsampling = 2 ** len(stages)
    check_image_size(name, image_size, downsampling)
    net: OrderedDict[str, nn.Module] = OrderedDict()
    for number, channels in enumerate(stages, 1):
        widths = [scaled(c, width) for c in channels]
        net[f"stage{number}"] = _stage(in_channels, widths)
        in_channels = widths[-1]
    net["flatten"] = nn.Flatten()
    flat, hidden = in_channels * (image_size // downsampling) ** 2, scaled(hidden, width)
    net["hidden"] = nn.Sequential(nn.Linear(flat, hidden), nn.ReLU())
    net["dropout"] = nn.Dropout(dropout)
    net["fc"] = nn.Linear(hidden, num_classes)
    return nn.Sequential(net)


def _stage(in_channels: int, channels: list[int]) -> nn.Sequential:
    """3×3 convolutions with ReLU and a max pool: [B, C, H, W] -> [B, C', H // 2, W // 2]."""
    stage = nn.Sequential()
    for out_channels in channels:
        stage.append(nn.Conv2d(in_channels, out_channels, 3, padding=1)).append(nn.ReLU())
        in_channels = out_channels
    return stage.append(nn.MaxPool2d(2))
