"""Raw images for int8 files: those that calibrate the ranges, and those that select layers."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kd.data.base import DataModule
from kd.data.datamodule import ImageDataModule
from kd.deploy.exporting.formats import MIN_CALIBRATION
from kd.errors import UserError

_MOST = 5000  # training images that stand in for a validation part that is missing


def calibration_images(data: DataModule, count: int) -> NDArray[np.uint8]:
    """Return training images, spread evenly over the training split.

    Args:
        data: set up.
        count: of images; fewer are returned if there are fewer.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        UserError: the data hold no raw images, or fewer than 32 would be returned.
    """
    rows = _raw(data).split.train
    chosen = rows[_spread(len(rows), count)]
    if len(chosen) < MIN_CALIBRATION:
        raise UserError(
            f"{len(chosen)} calibration images are too few for the ranges of int8 activations: "
            f"{MIN_CALIBRATION} are needed, and data {data.name!r} has {len(rows)} training images"
        )
    return np.asarray(_raw(data).arrays.train_inputs[chosen].cpu().numpy())


def validation_images(data: DataModule) -> tuple[Tensor, Tensor]:
    """Return the images that select: uint8 [N, C, H, W], and their labels [N].

    Of data without a validation part they are training images.

    Raises:
        UserError: the data hold no raw images.
    """
    arrays, rows = _raw(data).arrays, _raw(data).split.val
    if arrays.val_inputs is not None and arrays.val_targets is not None:
        return arrays.val_inputs.cpu(), arrays.val_targets.cpu()
    if len(rows) == 0:
        train = _raw(data).split.train
        rows = train[_spread(len(train), _MOST)]
    return arrays.train_inputs[rows].cpu(), arrays.train_targets[rows].cpu()


def _spread(length: int, most: int) -> Tensor:
    """Return at most `most` positions at equal distances: images may be sorted by class."""
    return torch.linspace(0, length - 1, min(length, most)).round().long()


def _raw(data: DataModule) -> ImageDataModule:
    if not isinstance(data, ImageDataModule):
        raise UserError(f"int8 needs raw training images: {data.limits.images}")
    return data
