"""Fingerprints of data and weights."""

from pathlib import Path

from torch import nn

from kd.data.arrays import digest
from kd.data.base import DataModule
from kd.io.result_file import read_result

DIGITS = 12  # hexadecimal: 48 bits


def data_fingerprint(data: DataModule) -> str | None:
    """Return the fingerprint of the data as a run uses them; None: they cannot be recognised."""
    found = data.run_fingerprint
    return None if found is None else found[:DIGITS]


def weights_hash(net: nn.Module) -> str:
    """Hash the names, types, shapes and values of a net's parameters and buffers.

    Example:
        >>> weights_hash(nn.BatchNorm1d(2)) == weights_hash(nn.BatchNorm1d(2))
        True
    """
    return weights_digest(net)[:DIGITS]


def weights_digest(net: nn.Module) -> str:
    """Return the hash that `weights_hash` shortens to `DIGITS`."""
    return digest(part for item in net.state_dict().items() for part in item)


def recipe_hash(path: Path | None) -> str | None:
    """Return `recipe_hash` of the run that trained some weights; None for those of other origin.

    Args:
        path: of the weights: the folder of a run, or a file.
    """
    result = read_result(path) if path is not None and path.is_dir() else None
    return None if result is None else result.get("recipe_hash")
