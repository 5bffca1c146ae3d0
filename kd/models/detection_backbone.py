"""Backbones of detectors: maps of strides 8, 16 and 32 of a torchvision classifier."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork

from kd.errors import UserError, nearest
from kd.models.torchvision_net import replace_first_conv

LEVELS = ("p3", "p4", "p5")  # of strides 8, 16 and 32, as Lin et al. 2017 number them
STRIDES = (8, 16, 32)
# Modules whose outputs have these strides, of a ResNet and of MobileNetV3 large
_RESNET = ("layer2", "layer3", "layer4")
_MODULES = {
    "resnet18": _RESNET,
    "resnet34": _RESNET,
    "resnet50": _RESNET,
    "mobilenet_v3_large": ("6", "12", "16"),
}


class Backbone(nn.Module):
    """Maps `p3`, `p4`, `p5` of images [B, C, S, S], S a multiple of 32.

    Batch norm is trained, unlike in torchvision's detectors, which freeze that of published
    weights: here the weights are random, or a file's that was trained in the same way.

    Args:
        arch: torchvision's name of the classifier.
        in_channels: C.
        pyramid: channels of a feature pyramid network (Lin et al. 2017,
            https://arxiv.org/abs/1612.03144) on the maps; None: the maps as they are.

    Attributes:
        channels: number of channels of each map.

    Raises:
        UserError: the architecture has no maps that are known.
    """

    def __init__(self, arch: str, in_channels: int, pyramid: int | None) -> None:
        super().__init__()
        if arch not in _MODULES:
            raise UserError(f"backbone {arch!r} has no known maps; {nearest(arch, _MODULES)}")
        net = models.get_model(arch, weights=None)
        if in_channels != 3:
            replace_first_conv(net, in_channels)
        body = net.features if arch.startswith("mobilenet") else net
        named = dict(zip(_MODULES[arch], LEVELS, strict=True))
        self.body = IntermediateLayerGetter(body, named)
        self.channels = _channels(self.body, in_channels)
        self.fpn: nn.Module = nn.Identity()
        if pyramid is not None:
            self.fpn = FeaturePyramidNetwork(self.channels, pyramid)
            self.channels = [pyramid] * len(LEVELS)
        for name in LEVELS:
            setattr(self, name, nn.Identity())  # taps: the other modules return dictionaries

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.fpn(self.body(images))
        return OrderedDict((name, getattr(self, name)(maps[name])) for name in LEVELS)


@torch.no_grad()
def _channels(body: nn.Module, in_channels: int) -> list[int]:
    maps = body.eval()(torch.zeros(1, in_channels, 32, 32))
    body.train()
    return [maps[name].shape[1] for name in LEVELS]


def check_multiple(net: str, image_size: int) -> None:
    """Refuse images whose maps would not cover them exactly.

    Raises:
        UserError: `image_size` is not a multiple of 32.
    """
    if image_size < STRIDES[-1] or image_size % STRIDES[-1]:
        lower = image_size // STRIDES[-1] * STRIDES[-1]
        sizes = " or ".join(str(s) for s in (lower, lower + STRIDES[-1]) if s)
        raise UserError(
            f"{net} needs images whose side is a multiple of {STRIDES[-1]}, got {image_size}; set "
            f"the data's image size to {sizes}, or take student=tiny_detector"
        )
