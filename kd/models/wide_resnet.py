"""Wide residual nets (WRN) with pre-activation blocks, of depth 6n + 4.

Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016, https://arxiv.org/abs/1605.07146.

A block's output is a sum that the next block normalises and rectifies first. The activated output
of a stage is therefore the first ReLU of the next stage, which has the stage's shape; the taps in
`conf/model` use it.
"""

from torch import Tensor, nn

from kd.models.layers import pooled_classifier
from kd.models.sizing import check_image_size, scaled


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv twice: [B, C, H, W] -> [B, channels, H / stride, W / stride].

    If the shape changes, the projection reads the activated input, as in the published code.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.project: nn.Conv2d | None = None
        if in_channels != channels or stride != 1:
            self.project = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu1(self.norm1(x))
        shortcut = x if self.project is None else self.project(activated)
        return self.conv2(self.relu2(self.norm2(self.conv1(activated)))) + shortcut


def wide_resnet(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    depth: int = 16,
    widen: int = 2,
    width: float = 1.0,
) -> nn.Sequential:
    """WRN-depth-widen: [B, C, H, W] -> logits [B, K]; three stages, down-samples 4 times.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        depth: 6n + 4, at least 10.
        widen: the paper's k, the factor of the stages' channels; the stem has 16.
        width: factor of all channels, the stem's included.

    Raises:
        ValueError: `depth` or `widen` is impossible.
        UserError: `image_size` is below 4.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(wide_resnet(3, 32, 10, depth=40, widen=2))
        2243546
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n+4, got {depth!r}")
    if widen < 1:
        raise ValueError(f"widen must be a whole number >= 1, got {widen!r}")
    check_image_size(f"wrn_{depth}_{widen}", image_size, 4)
    channels = scaled(16, width)
    features: dict[str, nn.Module] = {"stem": nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)}
    for number in (1, 2, 3):
        out_channels = scaled(2 ** (number + 3) * widen, width)  # 16, 32, 64 times widen
        blocks = (depth - 4) // 6
        features[f"stage{number}"] = _stage(channels, out_channels, blocks, min(number, 2))
        channels = out_channels
    features |= {"norm": nn.BatchNorm2d(channels), "relu": nn.ReLU()}
    return pooled_classifier(features, {"fc": nn.Linear(channels, num_classes)})


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = PreActivationBlock(in_channels, channels, stride)
    return nn.Sequential(
        first, *(PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1))
    )
