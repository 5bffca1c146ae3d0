"""What a user can do about errors of the libraries underneath, in the middle of a training."""

import torch

from kd.errors import OutOfMemoryError, UserError


def error_hint(error: Exception, batch_size: int) -> UserError | None:
    """What to tell of an error that comes from the config or the machine; None of others."""
    said = str(error)
    if "Expected more than 1 value per channel" in said:
        return UserError(
            f"data.batch_size={batch_size}: batch norm in these nets needs at least 2 images"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in said:
        return OutOfMemoryError(
            f"out of memory with data.batch_size={batch_size}: halve it, take "
            "trainer.precision=bf16-mixed, or a smaller teacher.cache.max_gb; the run goes on "
            "from its last checkpoint"
        )
    if isinstance(error, OverflowError) or ("converted to type" in said and "overflow" in said):
        return UserError(
            "a number is too large for the nets' type; look at optimizer and method.weights"
        )
    if "does not have a deterministic implementation" in said:
        what = said.partition(".")[0]
        return UserError(f"deterministic=strict: {what}; leave it out, or use trainer=cpu")
    return None
