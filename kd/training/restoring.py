"""Errors of a checkpoint that is intact and does not fit the run, as one message."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer

from kd.errors import OutOfMemoryError, UserError
from kd.io.printable import printable
from kd.training.evaluate import saved_state


@contextmanager
def restoring(file: Path | None, trainer: Trainer) -> Iterator[None]:
    """Name the checkpoint in any error before the first step has been made from it.

    A file may be edited, or come from a stranger: its entries are of the right names, and what they
    hold is found out by Lightning, the optimizer and the objectives, each in its own way.

    Args:
        file: the checkpoint; None: the run starts from the beginning, and errors are as they are.
        trainer: continues from it within the block.

    Raises:
        UserError: the run cannot continue from the checkpoint.
    """
    try:
        yield
    except (UserError, OutOfMemoryError, OSError, MemoryError):
        raise
    except Exception as error:
        if file is None or saved_state(trainer).stepped:
            raise
        said = printable(str(error).strip().split("\n")[0], 300)
        raise UserError(
            f"resume={file}: the run cannot continue from this checkpoint "
            f"({type(error).__name__}: {said}); it was edited, or belongs to another run"
        ) from error
