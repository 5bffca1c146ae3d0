"""Relations between the images of a batch: rows, dot products, and checks of the batch."""

import torch
from torch import Tensor

from kd.errors import UserError
from kd.objectives.precision import upcast

# Reason for `Objective.one_device`: the mean over devices is not the term of the whole batch.
ONE_BATCH = "it compares the images of a batch, and each device would see a part of them"


def flat(tensor: Tensor) -> Tensor:
    """Flatten a tensor [B, …] to rows [B, D], in float32 at least."""
    return upcast(tensor.flatten(1))


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context without autocast on the tensor's device.

    Relations are differences of products, and of a product in bfloat16 only 8 bits are right.
    """
    return torch.autocast(tensor.device.type, enabled=False)


def check_images(rows: Tensor, minimum: int, method: str) -> None:
    """Check that a batch [B, …] has enough images.

    Raises:
        UserError: B < minimum; the message has both numbers.
    """
    if rows.shape[0] < minimum:
        raise UserError(
            f"{method} compares the images of a batch with each other and needs at least {minimum} "
            f"of them, got {rows.shape[0]}; use a larger data.batch_size"
        )


def halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Split rows [2·B, …] of two views of each image: those of the first and of the second views.

    Raises:
        UserError: the number of rows is odd.
    """
    if rows.shape[0] % 2:
        raise UserError(f"two views of each image must be an even number of rows, got {len(rows)}")
    first, second = rows.chunk(2)
    return first, second


def gram(rows: Tensor) -> Tensor:
    """Dot products [B, B] of rows [B, D], without autocast."""
    with full_precision(rows):
        return rows @ rows.T


def off_diagonal(matrix: Tensor) -> Tensor:
    """Entries i ≠ j of a square matrix.

    Args:
        matrix: [B, B].

    Returns:
        [B, B − 1], row by row.

    Example:
        >>> import torch
        >>> off_diagonal(torch.arange(9).view(3, 3)).tolist()
        [[1, 2], [3, 5], [6, 7]]
    """
    size = matrix.shape[0]
    # After the first entry, every (B + 1)-th of the flattened matrix is on the diagonal.
    return matrix.flatten()[1:].view(size - 1, size + 1)[:, :-1].reshape(size, size - 1)
