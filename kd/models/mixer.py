"""MLP-Mixers for small images, of timm's blocks.

Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS 2021,
https://arxiv.org/abs/2105.01601.
"""

from torch import nn

from kd.models.sizing import check_counts, scaled
from kd.models.timm_parts import check_ratios, import_timm, into_stages, patch_side


def mixer(
    in_channels: int,
    image_size: int,
    num_classes: int,
    *,
    dim: int = 192,
    depth: int = 8,
    token_ratio: float = 0.5,
    mlp_ratio: float = 2.0,
    patch: int | None = None,
    drop_path: float = 0.0,
    width: float = 1.0,
) -> nn.Module:
    """MLP-Mixer: [B, C, H, W] -> logits [B, K].

    The stages return the tokens [B, N, D] of the N patches, row by row; the embedding is their mean
    after a layer norm.

    Args:
        in_channels, image_size, num_classes, dim, depth, patch: as `kd.models.vit.vit`.
        token_ratio: units in the middle of the layers over the positions, as a multiple of D.
        mlp_ratio: units in the middle of the layers over the channels, as a multiple of D.
        drop_path: probability in [0, 1) that training skips a block.
        width: factor of D.

    Raises:
        UserError: timm is not installed, or `patch` does not divide the images.
        ValueError: an argument is out of range.

    Example:
        >>> import torch
        >>> mixer(1, 8, 10, dim=8, depth=4)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    check_counts(dim=dim, depth=depth)
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path must be in [0, 1), got {drop_path!r}")
    wide = scaled(dim, width)
    check_ratios(wide, token_ratio=token_ratio, mlp_ratio=mlp_ratio)
    net: nn.Module = import_timm("mixer").models.mlp_mixer.MlpMixer(
        in_chans=in_channels,
        img_size=image_size,
        num_classes=num_classes,
        patch_size=patch_side("mixer", image_size, patch),
        embed_dim=wide,
        num_blocks=depth,
        mlp_ratio=(token_ratio, mlp_ratio),
        drop_path_rate=drop_path,
    )
    net.blocks = into_stages("mixer", net.blocks)  # type: ignore[arg-type]
    return net
