"""MobileNetV2 with fewer strides, for small images.

Sandler, Howard, Zhu, Zhmoginov & Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
CVPR 2018, https://arxiv.org/abs/1801.04381.

Difference from the paper: stride 1 instead of 2 in the stem and in the first 24-channel block, so
32×32 images end at 4×4. The variant of the distillation literature keeps the stem's stride and ends
at 2×2.
"""

from torch import Tensor, nn

from kd.models.layers import conv_bn, pooled_classifier
from kd.models.sizing import check_image_size, scaled

# The paper's table 2 by resolution: expansion, channels, blocks, stride of the first block.
_STAGES = (
    ((1, 16, 1, 1), (6, 24, 2, 1)),
    ((6, 32, 3, 2),),
    ((6, 64, 4, 2), (6, 96, 3, 1)),
    ((6, 160, 3, 2), (6, 320, 1, 1)),
)


class InvertedResidual(nn.Module):
    """Expanding 1×1, depthwise 3×3 and linear 1×1 convolution.

    [B, C, H, W] -> [B, out_channels, H / stride, W / stride], with a shortcut if the shapes agree.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = in_channels * expansion
        self.body = nn.Sequential()
        if expansion > 1:  # the first block has no expanding convolution
            self.body.extend(_conv_bn_relu6(in_channels, mid, kernel=1))
        self.body.extend(_conv_bn_relu6(mid, mid, stride=stride, groups=mid))
        self.body.extend(conv_bn(mid, out_channels, kernel=1))
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


def mobilenet_v2(
    in_channels: int, image_size: int, num_classes: int, *, width: float = 1.0, dropout: float = 0.2
) -> nn.Sequential:
    """Four stages of inverted residuals: [B, C, H, W] -> logits [B, K]; down-samples 8 times.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        width: factor of all channels, rounded to multiples of 8. Below 1 the paper keeps the last
            1280 channels; here they are scaled as well.
        dropout: rate in front of the classifier.

    Raises:
        UserError: `image_size` is below 8.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(mobilenet_v2(3, 32, 10))
        2236682
    """
    check_image_size("mobilenet_v2", image_size, 8)
    channels = scaled(32, width, 8)
    features: dict[str, nn.Module] = {"stem": _conv_bn_relu6(in_channels, channels)}
    for number, rows in enumerate(_STAGES, 1):
        stage = nn.Sequential()
        for expansion, base, blocks, first_stride in rows:
            for stride in (first_stride, *[1] * (blocks - 1)):
                stage.append(InvertedResidual(channels, scaled(base, width, 8), stride, expansion))
                channels = scaled(base, width, 8)
        features[f"stage{number}"] = stage
    last = scaled(1280, width, 8)
    features["last"] = _conv_bn_relu6(channels, last, kernel=1)
    head = {"dropout": nn.Dropout(dropout), "fc": nn.Linear(last, num_classes)}
    return pooled_classifier(features, head)


def _conv_bn_relu6(
    in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return conv_bn(in_channels, out_channels, kernel, stride, groups).append(nn.ReLU6())
