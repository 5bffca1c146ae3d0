"""Training of a student, from the beginning or from a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning import Trainer

from kd.config.identity import Identity
from kd.data.base import DataModule
from kd.distillers.base import Distiller
from kd.errors import OutOfMemoryError, UserError
from kd.io.printable import printable
from kd.training.error_hints import error_hints
from kd.training.evaluate import saved_state
from kd.training.resume import Resumed


def fit(
    trainer: Trainer,
    distiller: Distiller,
    data: DataModule,
    identity: Identity,
    resumed: Resumed | None,
) -> None:
    """Train the student.

    Args:
        trainer: with the callback of `saved_state`.
        distiller: the mode's LightningModule.
        data: the run's data.
        identity: of the run, which its checkpoints record.
        resumed: the state to continue from; None: from the beginning.

    Raises:
        UserError: the run cannot continue from the checkpoint; a mistake in the config that shows
            in training.
    """
    saved_state(trainer).identity = identity
    checkpoint = None if resumed is None else resumed.checkpoint
    distiller.settings_changed = resumed is not None and resumed.changed
    with _restoring(checkpoint, trainer), error_hints(data.batch_size):
        # weights_only: a checkpoint that a stranger sent is data, and no code of it is run.
        trainer.fit(distiller, datamodule=data, ckpt_path=checkpoint, weights_only=True)


@contextmanager
def _restoring(file: Path | None, trainer: Trainer) -> Iterator[None]:
    """Name the checkpoint in an error that is raised before the first step after it.

    A file may be edited, or come from a stranger: its entries have the right names, and Lightning,
    the optimizer or an objective fails at their values, each with another error.
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
