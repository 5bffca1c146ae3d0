"""Normalisation with which published nets were trained."""

from collections.abc import Mapping
from typing import Any

from torch import nn


def published_normalisation(
    net: nn.Module, configured: Mapping[str, Any]
) -> tuple[list[float], list[float]] | None:
    """Return mean and std per channel on the 0..1 scale; None: nothing is published for the net.

    Args:
        net: the net; those of timm carry a `pretrained_cfg`.
        configured: its constructor's arguments; torchvision's `arch` and `weights` are read.

    Example:
        >>> published_normalisation(nn.Flatten(), {"arch": "resnet18", "weights": "IMAGENET1K_V1"})
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    """
    of_timm = getattr(net, "pretrained_cfg", None)
    if isinstance(of_timm, Mapping) and of_timm.get("mean") and of_timm.get("std"):
        return [float(x) for x in of_timm["mean"]], [float(x) for x in of_timm["std"]]
    arch, weights = configured.get("arch"), configured.get("weights")
    if not isinstance(arch, str) or not isinstance(weights, str):
        return None
    from torchvision import models

    if arch not in models.list_models(module=models):
        return None
    published = models.get_model_weights(arch).__members__.get(weights)
    transforms = None if published is None else published.transforms()
    if transforms is None or not hasattr(transforms, "mean"):
        return None
    return [float(x) for x in transforms.mean], [float(x) for x in transforms.std]
