"""FCOS, RetinaNet and SSDlite of torchvision, for small images and with other backbones."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead

from kd.models.detection_backbone import STRIDES, Backbone, check_multiple
from kd.models.one_stage import OneStage


def torchvision_detector(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    arch: Literal["fcos", "retinanet", "ssdlite"],
    backbone: str,
    channels: int | None = 128,
    convs: int = 2,
    **options: Any,
) -> OneStage:
    """FCOS, RetinaNet or SSDlite on a backbone with random weights.

    Args:
        in_channels: C.
        image_size: S, a multiple of 32.
        num_classes: K.
        arch: FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355), RetinaNet (Lin et al. 2017,
            https://arxiv.org/abs/1708.02002) or SSDlite (Sandler et al. 2018,
            https://arxiv.org/abs/1801.04381), which has no feature pyramid.
        backbone: `resnet18`, `resnet34`, `resnet50` or `mobilenet_v3_large`.
        channels: of the feature pyramid and head, a multiple of 32 for FCOS; the papers have 256.
            SSDlite does not read it.
        convs: convolutions of FCOS's two branches; the paper has 4, RetinaNet always has.
        **options: see `Detector`.

    Raises:
        UserError: the image size does not suit, or the backbone is unknown.
        ValueError: `arch` is unknown, or `channels` does not suit.

    Example:
        >>> import torch
        >>> net = torchvision_detector(1, 64, 10, arch="fcos", backbone="resnet18", channels=32)
        >>> net(torch.zeros(2, 1, 64, 64)).shape  # 8² + 4² + 2² places
        torch.Size([2, 84, 15])
    """
    makers: dict[str, Callable[..., nn.Module]] = {
        "fcos": partial(_fcos, convs=convs),
        "retinanet": _retinanet,
        "ssdlite": _ssdlite,
    }
    if arch not in makers:
        raise ValueError(f"arch must be one of {sorted(makers)}, got {arch!r}")
    pyramid = None if arch == "ssdlite" else channels
    if pyramid is not None and (pyramid < 1 or (arch == "fcos" and pyramid % 32)):
        raise ValueError(f"channels must be positive, of FCOS a multiple of 32, got {channels!r}")
    if convs < 0:
        raise ValueError(f"convs must be ≥ 0, got {convs!r}")
    check_multiple(arch, image_size)
    maps = Backbone(backbone, in_channels, pyramid)
    maps.out_channels = pyramid or maps.channels  # type: ignore[assignment]  # read by torchvision
    net = makers[arch](maps, image_size, num_classes)
    return OneStage(net, in_channels, image_size, num_classes, **options)


# A config names the function; its nets' task is asked for before one is built.
torchvision_detector.task = OneStage.task  # type: ignore[attr-defined]


def _fcos(maps: Backbone, image_size: int, num_classes: int, convs: int) -> nn.Module:
    # One square anchor a place, as large as the cell: FCOS measures distances in its sides.
    anchors = AnchorGenerator(tuple((s,) for s in STRIDES), ((1.0,),) * len(STRIDES))
    head = FCOSHead(maps.channels[0], 1, num_classes, convs)
    return FCOS(maps, num_classes, anchor_generator=anchors, head=head)


def _retinanet(maps: Backbone, image_size: int, num_classes: int) -> nn.Module:
    # Four strides and ⅓ octaves above, as in the paper, halved: objects of small images are small.
    sizes = tuple(tuple(int(2 * s * 2 ** (i / 3)) for i in range(3)) for s in STRIDES)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(STRIDES))
    head = RetinaNetHead(maps.channels[0], anchors.num_anchors_per_location()[0], num_classes)
    return RetinaNet(maps, num_classes, anchor_generator=anchors, head=head)


def _ssdlite(maps: Backbone, image_size: int, num_classes: int) -> nn.Module:
    # Sides of 0.2 to 0.95 of the image, as torchvision's SSDlite
    anchors = DefaultBoxGenerator([[2, 3] for _ in STRIDES], min_ratio=0.2, max_ratio=0.95)
    a_place = anchors.num_anchors_per_location()
    head = SSDLiteHead(maps.channels, a_place, num_classes + 1, nn.BatchNorm2d)
    size = (image_size, image_size)
    return SSD(maps, anchors, size, num_classes + 1, head=head)
