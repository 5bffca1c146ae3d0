"""Two views of each image, for modes in which each net has its own."""

from torch import Tensor

from kd.teachers.two_views import second_of
from kd.types import Batch


def check_views(views: int) -> int:
    """Return a mode's number of views.

    Raises:
        ValueError: it is neither 1 nor 2.
    """
    if views not in (1, 2):
        raise ValueError(f"views must be 1 or 2, got {views!r}")
    return views


def views_of(batch: Batch, views: int) -> list[Tensor]:
    """Return the images [B, C, H, W] of a batch in one or two views.

    Raises:
        RuntimeError: two are wanted, and the data yield one.
    """
    if views == 1:
        return [batch.input]
    return [batch.input, second_of(batch).input]
