"""Vision transformers for small images, of timm's blocks.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
ICLR 2021, https://arxiv.org/abs/2010.11929.
"""

from typing import Any

from torch import nn

from kd.models.sizing import check_counts, scaled
from kd.models.timm_parts import check_ratios, import_timm, into_stages, patch_side


def vit(
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
) -> nn.Module:
    """Vision transformer with a class token: [B, C, H, W] -> logits [B, K].

    The stages return the tokens [B, 1 + N, D]: the class token, then those of the N patches, row by
    row.

    Args:
        in_channels: C.
        image_size: H and W.
        num_classes: K.
        dim: width D.
        depth: number of blocks ≥ 4, in four stages.
        heads: of a block's attention.
        mlp_ratio: units of a block's two linear layers' middle, as a multiple of D.
        patch: side of a patch in pixels; None: see `kd.models.timm_parts.patch_side`.
        drop_path: probability in [0, 1) that training skips the last block; it grows with depth.
        width: factor of D, rounded to a multiple of `heads`.

    Raises:
        UserError: timm is not installed, or `patch` does not divide the images.
        ValueError: an argument is out of range.

    Example:
        >>> from kd.models.sizing import count_parameters
        >>> count_parameters(vit(3, 32, 10))
        2400586
    """
    kind = import_timm("vit").models.vision_transformer.VisionTransformer
    sizes = vit_arguments(image_size, dim, depth, heads, mlp_ratio, patch, drop_path, width)
    net: nn.Module = kind(in_chans=in_channels, num_classes=num_classes, **sizes)
    net.blocks = into_stages("vit", net.blocks)  # type: ignore[arg-type]
    return net


def vit_arguments(
    image_size: int,
    dim: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    patch: int | None,
    drop_path: float,
    width: float,
) -> dict[str, Any]:
    """Check the sizes of `vit` and return them by the names of timm's constructor."""
    check_counts(dim=dim, depth=depth, heads=heads)
    if dim % heads:
        raise ValueError(f"dim must be a multiple of heads, got {dim!r} and {heads!r}")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path must be in [0, 1), got {drop_path!r}")
    wide = scaled(dim, width, multiple=heads)
    check_ratios(wide, mlp_ratio=mlp_ratio)
    return {
        "img_size": image_size,
        "patch_size": patch_side("vit", image_size, patch),
        "embed_dim": wide,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": mlp_ratio,
        "drop_path_rate": drop_path,
    }
