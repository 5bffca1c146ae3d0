"""Validation split of a training pool, and normalisation of its images."""

from typing import NamedTuple

import torch
from torch import Tensor

from kd.data.counter_rng import stream
from kd.errors import UserError

SPLIT = 2  # purpose of a random stream; kd.data.loader uses 1 and 3
Normalisation = tuple[list[float], list[float]]


class Split(NamedTuple):
    """Positions in the training pool int64 [N], and mean and std per channel float64 [C].

    Samples that are no images have neither.
    """

    train: Tensor
    val: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None


def make_split(targets: Tensor, fraction: float, seed: int) -> Split:
    """Split a training pool.

    Args:
        targets: labels int64 [N].
        fraction: of each class, held out for validation; 0: all samples are for training.
        seed: of the split.

    Raises:
        UserError: no sample is held out.
    """
    train, val = stratified_split(targets.cpu(), fraction, seed)
    if fraction and not len(val):
        raise UserError(
            f"data.val_fraction={fraction} holds out none of {len(targets)} training samples: no "
            "class has enough of them for one"
        )
    return Split(train, val)


def given_statistics(given: Normalisation, channels: int) -> tuple[Tensor, Tensor]:
    """Return the configured mean and std per channel, float64 [C].

    Raises:
        UserError: they have another number of channels.
    """
    if len(given[0]) != channels:
        raise UserError(
            f"data.mean and data.std have {len(given[0])} values, the images {channels} channels"
        )
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in given)
    return mean, std


def check_normalisation(mean: list[float] | None, std: list[float] | None) -> Normalisation | None:
    """Return (mean, std), or None if both are None.

    Raises:
        ValueError: only one is given, the lengths differ, or a value is not on the 0..1 scale.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None or len(mean) != len(std):
        raise ValueError(
            f"mean and std must be of equal length, or both null, got {mean!r}, {std!r}"
        )
    if not all(type(value) in (int, float) for value in [*mean, *std]):
        raise ValueError(f"mean and std must be numbers, got {mean!r}, {std!r}")
    if not all(value > 0 for value in std):
        raise ValueError(f"std must be > 0, got {std!r}")
    if not all(0 <= value <= 1 for value in [*mean, *std]):
        got = f"got {mean!r}, {std!r}{_remedy(mean, std)}"
        raise ValueError(f"mean and std must be on the 0..1 scale, {got}")
    return mean, std


def _remedy(mean: list[float], std: list[float]) -> str:
    """The values divided by 255, if they are on the 0..255 scale."""
    if not all(0 <= value <= 255 for value in [*mean, *std]):
        return ""
    scaled = ([round(value / 255, 4) for value in values] for values in (mean, std))
    return "; of the 0..255 scale, divide by 255: mean={}, std={}".format(*scaled)


def stratified_split(targets: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out a fraction of each class.

    Of a class with n samples, n · fraction rounded (half up) are held out, at most n − 1. The
    result is a pure function of the arguments.

    Args:
        targets: labels [N], int64.
        fraction: in [0, 1).
        seed: of the draw.

    Returns:
        Sorted positions (kept, held out), int64.

    Example:
        >>> kept, held = stratified_split(torch.tensor([0, 0, 0, 0, 1, 1]), 0.5, seed=0)
        >>> len(kept), len(held)
        (3, 3)
    """
    generator = torch.Generator().manual_seed(stream(seed, SPLIT))
    shuffled = torch.randperm(len(targets), generator=generator)
    grouped = shuffled[targets[shuffled].argsort(stable=True)]
    counts = torch.bincount(targets)
    quota = (counts.double() * fraction + 0.5).long().minimum(counts - 1).clamp(min=0)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(targets)) - starts.repeat_interleave(counts)
    held = place < quota.repeat_interleave(counts)
    return grouped[~held].sort().values, grouped[held].sort().values


def channel_statistics(images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of images[rows] on the 0..1 scale, float64 [C].

    They are computed from exact histograms of the 256 levels. The std of a constant channel is set
    to one level (1/255), so that it is normalised to zeros and not to NaN.
    """
    histogram = torch.zeros(images.shape[1], 256, dtype=torch.float64, device=images.device)
    for part in rows.split(8192):
        channels = images.index_select(0, part).transpose(0, 1).flatten(1)
        histogram += torch.stack([torch.bincount(pixels, minlength=256) for pixels in channels])
    weights = histogram / histogram.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    mean = weights @ levels
    variance = (weights * (levels - mean[:, None]) ** 2).sum(1)
    return mean.cpu(), variance.sqrt().clamp(min=1 / 255).cpu()
