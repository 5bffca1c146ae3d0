"""Classification nets of torchvision by name."""

from typing import Any

import torch
from torch import nn
from torchvision import models

from kd.errors import UserError, nearest
from kd.models.sizing import check_forward


def torchvision_net(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    arch: str,
    weights: str | None = None,
    **options: Any,
) -> nn.Module:
    """`torchvision.models.<arch>`: [B, C, H, W] -> logits [B, K].

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        arch: name in `torchvision.models.list_models()`.
        weights: None, "DEFAULT" or a name such as "IMAGENET1K_V1". Layers of another shape (the
            first if C ≠ 3, the classifier if K ≠ 1000) are initialised at random.
        options: arguments of torchvision's constructor.

    Raises:
        UserError: the architecture, its options or weights do not exist, it cannot take images of
            this size, or the weights cannot be downloaded.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(torchvision_net(3, 32, 10, arch="resnet18"))
        11181642
    """
    names = models.list_models(module=models)
    if arch not in names:
        raise UserError(f"unknown torchvision architecture {arch!r}; {nearest(arch, names)}")
    options = _defaults(arch, image_size) | options
    try:
        net = models.get_model(arch, num_classes=num_classes, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UserError(
            f"torchvision {arch!r} at {image_size}x{image_size} with {options}: {error}"
        ) from error
    if in_channels != 3:
        replace_first_conv(net, in_channels)
    if weights is not None:
        _load(net, arch, weights)
    check_forward(net, f"torchvision {arch!r}", in_channels, image_size)
    return net


def _defaults(arch: str, image_size: int) -> dict[str, Any]:
    """Return the image size for nets that are built for one, and no auxiliary heads."""
    family = arch.split("_")[0]
    if family in ("googlenet", "inception"):
        # In training mode they return a tuple with auxiliary logits. Without `init_weights` they
        # warn that its default will change.
        return {"aux_logits": False, "init_weights": True}
    by_family: dict[str, dict[str, Any]] = {
        "vit": {"image_size": image_size},
        "maxvit": {"input_size": (image_size, image_size)},
    }
    return by_family.get(family, {})


def replace_first_conv(net: nn.Module, in_channels: int) -> None:
    """Replace the first convolution, which reads RGB, by one for another number of channels."""
    convs = ((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    name, old = next(convs)
    parent, _, child = name.rpartition(".")
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    setattr(net.get_submodule(parent), child, new)


def _load(net: nn.Module, arch: str, weights: str) -> None:
    """Load those published weights whose shapes fit."""
    published = models.get_model_weights(arch)
    if weights not in published.__members__:
        raise UserError(
            f"torchvision {arch!r} has no weights {weights!r}; "
            f"{nearest(weights, published.__members__)}"
        )
    try:
        state = published[weights].get_state_dict(progress=False, check_hash=True)
    except OSError as error:
        raise UserError(
            f"cannot fetch {weights} of torchvision {arch!r} ({error}); set weights=null, or put "
            f"the file of {published[weights].url} into {torch.hub.get_dir()}/checkpoints"
        ) from error
    own = net.state_dict()
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    net.load_state_dict(fits, strict=False)
