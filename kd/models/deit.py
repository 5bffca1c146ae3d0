"""Vision transformers with a distillation token and a classifier on it, of timm's blocks.

Touvron, Cord, Douze, Massa, Sablayrolles & Jégou, "Training data-efficient image transformers &
distillation through attention", ICML 2021, https://arxiv.org/abs/2012.12877.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.timm_parts import import_timm, into_stages
from kd.models.vit import vit_arguments

FUSIONS = ("probabilities", "logits")


class DistilledTransformer(nn.Module):
    """A vision transformer whose logits join those of its two classifiers.

    Args:
        vit: timm's `VisionTransformerDistilled`.
        fusion: "probabilities": the softmax of the logits is the mean of the two classifiers'; the
            paper adds them. "logits": the mean of their logits, as in the authors' code.

    Raises:
        ValueError: `fusion` has another value.
    """

    def __init__(self, vit: nn.Module, fusion: str = "probabilities") -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {list(FUSIONS)}, got {fusion!r}")
        self.vit, self.fusion = vit, fusion

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.vit.forward_features(images)  # type: ignore[operator]
        labels: Tensor = self.vit.head(tokens[:, 0])  # type: ignore[operator]
        teacher: Tensor = self.vit.head_dist(tokens[:, 1])  # type: ignore[operator]
        return fused(labels, teacher, self.fusion)


def fused(first: Tensor, second: Tensor, fusion: str = "probabilities") -> Tensor:
    """Join the logits [B, K] of two classifiers; see `DistilledTransformer`.

    Example:
        >>> first, second = torch.tensor([[9.0, 9.0]]), torch.tensor([[0.0, math.log(3)]])
        >>> fused(first, second).softmax(1)  # the mean of (1/2, 1/2) and (1/4, 3/4)
        tensor([[0.3750, 0.6250]])
    """
    if fusion == "logits":
        return (first + second) / 2
    logs = torch.stack([F.log_softmax(logits.float(), 1) for logits in (first, second)])
    return logs.logsumexp(0) - math.log(2)


def deit(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    dim: int = 192,
    depth: int = 8,
    heads: int = 3,
    mlp_ratio: float = 2.0,
    patch: int | None = None,
    drop_path: float = 0.0,
    width: float = 1.0,
    fusion: str = "probabilities",
) -> nn.Module:
    """Vision transformer with class and distillation token: [B, C, H, W] -> logits [B, K].

    The stages return the tokens [B, 2 + N, D]: class, distillation, then the N patches. The module
    `vit.head` returns the class token's logits, `vit.head_dist` those of the distillation token.
    The net computes the same in training and at inference.

    Args:
        in_channels, image_size, num_classes, dim, depth, heads, mlp_ratio, patch, drop_path, width:
            as `kd.models.vit.vit`.
        fusion: "probabilities" or "logits"; see `DistilledTransformer`.

    Raises:
        UserError: timm is not installed, or `patch` does not divide the images.
        ValueError: an argument is out of range.

    Example:
        >>> deit(1, 8, 10, dim=12, depth=4)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    kind = import_timm("deit").models.deit.VisionTransformerDistilled
    sizes = vit_arguments(image_size, dim, depth, heads, mlp_ratio, patch, drop_path, width)
    net = kind(in_chans=in_channels, num_classes=num_classes, **sizes)
    net.blocks = into_stages("deit", net.blocks)
    return DistilledTransformer(net, fusion)
