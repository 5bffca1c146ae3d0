"""Parts that nets on patches of timm share: sizes, stages of blocks, the import of timm.

Wightman, "PyTorch Image Models", 2019, https://github.com/huggingface/pytorch-image-models.
"""

from collections import OrderedDict
from itertools import pairwise
from types import ModuleType

from torch import nn

from kd.errors import UserError

STAGES = 4  # of blocks, as the convolutional nets for ImageNet have them
_GRID = 7  # patches a side; 32×32 images have 8 × 8 patches of 4 × 4 pixels, 28×28 images 7 × 7


def patch_side(net: str, image_size: int, patch: int | None = None) -> int:
    """Return the side of a net's square patches in pixels.

    Args:
        net: its name, for the message.
        image_size: H and W.
        patch: the side; None: the largest that divides the image into at least 7 patches a side,
            or into patches of 2 × 2 pixels where it is smaller than that.

    Raises:
        UserError: the image is no grid of such patches.

    Example:
        >>> [patch_side("vit", size) for size in (8, 28, 32, 64)]
        [2, 4, 4, 8]
    """
    sides = [side for side in range(1, image_size + 1) if image_size % side == 0]
    if patch is None:
        grid = min(_GRID, image_size // 2)
        return max(side for side in sides if image_size // side >= grid)
    if patch not in sides:
        raise UserError(
            f"{net}: patch={patch} does not divide images of {image_size}x{image_size}; choose one "
            f"of {sides}"
        )
    return patch


def check_ratios(dim: int, **ratios: float) -> None:
    """Refuse layers of `ratio · dim` units that have none.

    Raises:
        ValueError: names the first.

    Example:
        >>> check_ratios(192, mlp_ratio=0)
        Traceback (most recent call last):
        ValueError: mlp_ratio must be ≥ 1 / 192, one unit, got 0
    """
    for name, ratio in ratios.items():
        if not ratio * dim >= 1:
            raise ValueError(f"{name} must be ≥ 1 / {dim}, one unit, got {ratio!r}")


def into_stages(net: str, blocks: nn.Sequential) -> nn.Sequential:
    """Group the blocks of a net into `stage1` … `stage4`, the later ones longer if need be.

    Raises:
        ValueError: there are fewer than four.

    Example:
        >>> grouped = into_stages("vit", nn.Sequential(*(nn.Identity() for _ in range(6))))
        >>> {name: len(stage) for name, stage in grouped.named_children()}
        {'stage1': 1, 'stage2': 2, 'stage3': 1, 'stage4': 2}
    """
    if len(blocks) < STAGES:
        raise ValueError(f"{net}: depth must be ≥ {STAGES}, one block a stage, got {len(blocks)}")
    ends = [len(blocks) * number // STAGES for number in range(STAGES + 1)]
    return nn.Sequential(
        OrderedDict(
            (f"stage{number}", nn.Sequential(*blocks[start:end]))
            for number, (start, end) in enumerate(pairwise(ends), start=1)
        )
    )


def import_timm(net: str) -> ModuleType:
    """Import timm, which is an optional dependency.

    Args:
        net: what needs it, for the message.

    Raises:
        UserError: it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"model={net} needs timm, which is not installed; pip install 'kd[timm]'"
        ) from error
    return timm
