"""Errors that libraries raise during training, as messages with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kd.errors import OutOfMemoryError, UserError


@contextmanager
def error_hints(batch_size: int) -> Iterator[None]:
    """Replace errors with a known remedy by a `UserError` that names it.

    Args:
        batch_size: of the training, for the message.

    Raises:
        UserError: the config asks for what a library refuses.
        OutOfMemoryError: memory ran out; the run can be resumed.
    """
    try:
        yield
    except (ValueError, MemoryError, OverflowError, RuntimeError) as error:
        if (hint := error_hint(error, batch_size)) is None:
            raise
        raise hint from error


def error_hint(error: Exception, batch_size: int) -> UserError | None:
    """Return the error to raise instead of a library's; None for one without a known remedy."""
    # The libraries raise these as plain ValueError or RuntimeError, so only the text tells them
    # apart; tests/training/test_error_hints.py provokes each with the installed versions.
    said = str(error)
    if "Expected more than 1 value per channel" in said:
        return UserError(
            f"data.batch_size={batch_size}: batch norm in these nets needs at least 2 images"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in said:
        return OutOfMemoryError(
            f"out of memory with data.batch_size={batch_size}: halve it, or set "
            "trainer.precision=bf16-mixed or a smaller teacher.cache.max_gb; the run resumes from "
            "its last checkpoint"
        )
    if isinstance(error, OverflowError) or ("converted to type" in said and "overflow" in said):
        return UserError(
            "a number is too large for the precision of the nets; check the values of optimizer "
            "and method.weights"
        )
    if "does not have a deterministic implementation" in said:
        operation = said.partition(".")[0]
        return UserError(f"deterministic=strict: {operation}; leave it out, or use trainer=cpu")
    return None
