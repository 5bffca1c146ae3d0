"""Checkpoints from which a run resumes exactly."""

import io
import time
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from kd.callbacks.csv_logger import ResumableCSVLogger
from kd.callbacks.stop_request import StopRequest
from kd.compat import training_figures
from kd.config.identity import Identity
from kd.data.base import DataModule
from kd.distillers.evaluation import EvaluatedModule
from kd.io.atomic import link_atomic, write_atomic
from kd.io.own_files import remove_unfinished
from kd.io.random_state import random_state, set_random_state
from kd.io.run_folder import RunFolder

# Entries that a checkpoint has besides Lightning's
IDENTITY = "identity"
EPOCHS_DONE = "epochs_done"
OPTIMIZER = "optimizer"  # qualified name of its class


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, flushed to disk before they replace an earlier file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_: Any, **__: Any) -> None:
        # In memory first: torch.save writes in many small pieces.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(Path(path), buffer.getbuffer())


class Checkpoints(Checkpoint):
    """Saves the last and the best state of a run.

    `last.ckpt` is saved after every epoch, within an epoch once `every_minutes` have passed, and
    when SIGINT or SIGTERM is received; the run then exits with code 130 or 143. `best.ckpt` is the
    state after the epoch with the best validation figure of the task (accuracy of a classifier).
    Of equal figures the latest counts:
    on a small validation set many epochs tie at the top, and the first of them had a high learning
    rate. An epoch does not count while any callback of the run has an attribute `selectable` that
    is false: the net is not yet what the run is to leave (it is still being pruned, say).

    Lightning's `ModelCheckpoint` selects the first of equal scores and does not save the states of
    random number generators. With several devices, states are saved after epochs only, and signals
    are left to Lightning: its processes would stop at different steps.

    Args:
        folder: the run's folder.
        every_minutes: interval between two states within an epoch.

    Attributes:
        identity: of the run, saved with its states; the run itself sets it.
    """

    def __init__(self, folder: Path, every_minutes: float = 5.0) -> None:
        self.files, self.every_minutes = RunFolder(folder), every_minutes
        self.identity: Identity | None = None
        self.best_score: float | None = None
        self.best_epoch = 0
        self.stop = StopRequest()
        self._saved = 0.0  # time of the last state
        self._random: dict[str, Any] | None = None  # random state to restore
        self._score: float | None = None  # of this epoch's validation
        self._epochs_done = 0
        self.stepped = False  # in this process

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            self.stop.leave_to_lightning()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = time.monotonic()
        self.discard_later(trainer)
        if self._random is not None:
            set_random_state(self._random)
        if trainer.world_size == 1:
            self.stop.install()

    def discard_later(self, trainer: Trainer) -> None:
        """Delete what a killed process left after its last state: parts of files, rows of logs.

        Lightning does not call `on_train_start` where all epochs are done.
        """
        if trainer.is_global_zero:
            for folder in (self.files.root, *self.files.folders()):
                remove_unfinished(folder, self.files.is_own)
        for logger in trainer.loggers:
            if isinstance(logger, ResumableCSVLogger):
                logger.truncate(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.stepped = True
        if batch_idx + 1 == trainer.num_training_batches or trainer.world_size > 1:
            return  # on_train_epoch_end follows
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # a checkpoint holds no accumulated gradients
        due = time.monotonic() - self._saved > 60 * self.every_minutes
        if due or self.stop.signal is not None:
            if not _resume_limit(trainer):
                self._save(trainer, self.files.last)
            self.stop.raise_if_received()

    def on_teacher_progress(self, done: int, total: int) -> None:
        """Stop while teacher outputs are computed; the run resumes from the last saved state."""
        self.stop.raise_if_received()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            monitor = cast(EvaluatedModule, pl_module).task.monitor
            self._score = trainer.callback_metrics[monitor].item()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        score, self._score = self._score, None
        if not all(getattr(each, "selectable", True) for each in _callbacks(trainer)):
            score = None
        best = score is not None and (self.best_score is None or score >= self.best_score)
        self._epochs_done = trainer.current_epoch + 1
        if best:
            self.best_score, self.best_epoch = score, self._epochs_done
        self._log_epoch(trainer)
        self._save(trainer, self.files.best if best else self.files.last)
        if best and trainer.is_global_zero:
            link_atomic(self.files.best, self.files.last)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A signal that arrived in validation stops the run here, after Lightning has logged the
        # figures of the epoch.
        self._epochs_done = trainer.current_epoch
        self.stop.raise_if_received()

    def _log_epoch(self, trainer: Trainer) -> None:
        """Write the epoch's training figures, which Lightning logs after the state is saved.

        A run that is killed in between would resume after the epoch, without its row.
        """
        ours = [logger for logger in trainer.loggers if isinstance(logger, ResumableCSVLogger)]
        figures, step = training_figures(trainer) if ours else ({}, 0)
        for logger in ours if figures else ():
            logger.log_metrics({"epoch": self._epochs_done, **figures}, step)

    def _save(self, trainer: Trainer, path: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # a resumed run logs from this step on
        trainer.save_checkpoint(path)
        self._saved = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.stop.restore()
        self.stop.raise_if_received()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.stop.restore()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        optimizer = type(trainer.optimizers[0])
        checkpoint[IDENTITY] = None if self.identity is None else self.identity.state()
        checkpoint[EPOCHS_DONE] = self._epochs_done
        checkpoint[OPTIMIZER] = f"{optimizer.__module__}.{optimizer.__qualname__}"

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "random": random_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]
        self._random = state_dict["random"]


def _callbacks(trainer: Trainer) -> list[Callback]:
    return cast(Any, trainer).callbacks


def _resume_limit(trainer: Trainer) -> str:
    """Why the data do not allow to resume within an epoch; empty: they do."""
    data: Any = getattr(trainer, "datamodule", None)
    return data.limits.resume if isinstance(data, DataModule) else ""
