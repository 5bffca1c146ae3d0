"""Conversion of a user's data to a data module of `kd`."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning import LightningDataModule

from kd.data.base import DataModule
from kd.data.external import ExternalData
from kd.errors import UserError

SPLITS = ("train", "val", "test")


def adapt(data: Any, **settings: Any) -> DataModule:
    """Make a data module of `kd` from what a user has.

    Args:
        data: a data module of `kd` (returned as it is), any other `LightningDataModule`, or a
            sequence or mapping of the three splits, each a `DataLoader` or a `Dataset`.
        **settings: as `ExternalData`.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(data, DataModule):
        return data
    if isinstance(data, LightningDataModule):
        return ExternalData(module=data, **settings)
    if isinstance(data, Mapping) and set(data) == set(SPLITS):
        return ExternalData(**data, **settings)
    if isinstance(data, Sequence) and not isinstance(data, str) and len(data) == len(SPLITS):
        return ExternalData(**dict(zip(SPLITS, data, strict=True)), **settings)
    raise UserError(
        "data must be a LightningDataModule or (train, val, test), each a DataLoader or a Dataset, "
        f"got {type(data).__name__}; torch.utils.data.random_split cuts a validation set out of a "
        "training set"
    )
