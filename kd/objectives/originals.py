"""Similarities of rotated images to their originals, and the images that transfer theirs."""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.pairs import full_precision
from kd.objectives.precision import upcast


def transferred(similarity: Tensor, original: Tensor, kept: float = 0.75) -> Tensor:
    """Which rotated images are transferred [R], 1.0 or 0.0.

    Args:
        similarity: of the teacher [R, B].
        original: position of the original [R].
        kept: share of the wrongly matched images, those with the original ranked highest.

    Example:
        >>> import torch
        >>> similarity = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
        >>> transferred(similarity, torch.tensor([0, 1, 2]), kept=0.5)
        tensor([1., 0., 1.])
    """
    own = similarity.gather(1, original[:, None])
    rank = (similarity > own).sum(1)  # of the original: 0 if the match is right
    wrong = (rank > 0).sum()
    count = len(rank) - wrong + (wrong * kept).long()
    place = rank.argsort(stable=True).argsort()
    return (place < count).to(similarity.dtype)


def similarities(changed: Tensor, images: Tensor) -> Tensor:
    """Cosines [R, B] of embeddings of rotated images [R, D] and of images [B, D]."""
    ours, theirs = (F.normalize(upcast(each), dim=1, eps=1e-6) for each in (changed, images))
    # Ranks and divergences of cosines: in bfloat16 many would be equal.
    with full_precision(ours):
        return ours @ theirs.T
