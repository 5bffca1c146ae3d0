"""Relations between the images of a batch: rows, their products, and what these need."""

import torch
from torch import Tensor

from kd.errors import UserError

# Why such a term cannot be spread: the mean over the devices is not that of the whole batch.
ONE_BATCH = "it compares the images of a batch, and each device would see a part of them"


def flat(tap: Tensor) -> Tensor:
    """The tap as rows [B, D] of float32; a map is flattened."""
    return tap.flatten(1).float()


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which products are float32: bfloat16 has 8 bits, and relations are differences
    of products.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def check_images(rows: Tensor, least: int, what: str) -> None:
    """Refuse a batch of fewer than `least` images.

    Raises:
        UserError: names the size and what is needed.
    """
    if rows.shape[0] < least:
        raise UserError(
            f"{what} compares the images of a batch with each other and needs at least {least} of "
            f"them, got {rows.shape[0]}; use a larger data.batch_size"
        )


def gram(rows: Tensor) -> Tensor:
    """All dot products [B, B] of rows [B, D]."""
    with full_precision(rows):
        return rows @ rows.T


def off_diagonal(matrix: Tensor) -> Tensor:
    """The entries i ≠ j of a square matrix [B, B], as [B, B − 1]."""
    size = matrix.shape[0]
    # Behind the first entry, every (B + 1)-th is on the diagonal.
    return matrix.flatten()[1:].view(size - 1, size + 1)[:, :-1].reshape(size, size - 1)
