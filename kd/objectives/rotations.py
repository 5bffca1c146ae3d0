"""Rotated copies of a batch, and what objectives need that run both nets on them."""

import torch
from torch import Tensor

from kd.errors import UserError
from kd.objectives.setting import Run, Setting

TURNS = 4  # rotations by 0, 90, 180 and 270 degrees


def rotated(images: Tensor) -> Tensor:
    """Rotate images by 90, 180 and 270 degrees.

    Args:
        images: [B, C, S, S].

    Returns:
        [3B, C, S, S]: first all images rotated by 90 degrees, then by 180, then by 270.

    Example:
        >>> rotated(torch.tensor([[[[1, 2], [3, 4]]]]))[:, 0].tolist()
        [[[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    """
    return torch.cat([images.rot90(turn, (2, 3)) for turn in range(1, TURNS)])


def both_runs(method: str, setting: Setting) -> tuple[Run, Run]:
    """Return what runs student and teacher on rotated images.

    Raises:
        UserError: one of them cannot be run, or the images are not square.
    """
    if setting.run_student is None or setting.run_teacher is None:
        raise UserError(
            f"method={method} runs both nets on rotated images, which needs a single teacher whose "
            "outputs are its own; name a model as the teacher, and leave mode and control out"
        )
    if setting.image_size is not None and len({*setting.image_size}) > 1:
        raise UserError(
            f"method={method} rotates images by 90 degrees, which must be square, and those of the "
            f"data have height and width {setting.image_size}; choose data of square images"
        )
    return setting.run_student, setting.run_teacher
