"""A run's checkpoints: each whole or not at all, and enough to go on as if nothing had happened."""

import io
import logging
import os
import signal
import threading
import time
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from kd.callbacks.csv_logger import ResumableCSVLogger
from kd.io.atomic import UNFINISHED, link_atomic, write_atomic
from kd.io.random_state import random_state, set_random_state
from kd.io.run_folder import RunFolder

log = logging.getLogger(__name__)

_IDENTITY = "config_hash"

_OPTIMIZER = "optimizer"  # its class

_METRIC = "val/acc"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's files, but flushed to the disk before they take the place of the ones before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, *_: Any, **__: Any) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(Path(path), buffer.getbuffer())


class Checkpoints(Checkpoint):
    """Keeps the state after every epoch, now and then within one, and that of the best epoch.

    `last.ckpt` is written after every epoch, between two steps once `every_minutes` have passed,
    and where Ctrl-C or SIGTERM asks the run to stop: it then ends with code 130 or 143. The same
    signal again ends it at once. `best.ckpt` is the state after the epoch with the best validation
    accuracy; of equal ones, the latest: on a small validation set many epochs tie at the top, the
    first of them while the learning rate is still high.

    Several devices write after epochs only, and leave signals to Lightning.

    Args:
        folder: the run's.
        every_minutes: between two states within an epoch.
        identity: what the run was told; a run that is told otherwise does not go on from here.
    """

    def __init__(self, folder: Path, every_minutes: float = 5.0, identity: str = "") -> None:
        self.files, self.every_minutes, self.identity = RunFolder(folder), every_minutes, identity
        self.best_score: float | None = None
        self.best_epoch = 0
        self._spent = 0.0  # seconds of training before this process
        self._started: float | None = None
        self._saved = 0.0
        self._asked: int | None = None  # the signal that asked the run to stop
        self._handlers: dict[int, Any] = {}
        self._random: dict[str, Any] | None = None
        self._score: float | None = None  # of the validation in this epoch

    @property
    def seconds(self) -> float:
        """Spent in training up to now, in all processes that took part one after the other."""
        return self._spent + (0.0 if self._started is None else time.monotonic() - self._started)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._saved = time.monotonic()
        if trainer.is_global_zero:
            unfinished = (
                folder.glob(UNFINISHED) for folder in (self.files.checkpoints, self.files.root)
            )
            for left in chain(*unfinished):
                left.unlink(missing_ok=True)  # of a process that was killed
        if self._random is not None:
            set_random_state(self._random)
        for logger in trainer.loggers:
            if isinstance(logger, ResumableCSVLogger):
                logger.cut(trainer.global_step)
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            os._exit(128 + number)
        self._asked = number
        log.warning("stopping after this step; once more, and it ends at once")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches or trainer.world_size > 1:
            return  # the epoch's end comes right behind
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # gradients are no part of a state
        late = time.monotonic() - self._saved > 60 * self.every_minutes
        if late or self._asked is not None:
            self._save(trainer, self.files.last)
            self._stop_if_asked()

    def on_teacher_progress(self, done: int, wanted: int) -> None:
        """Stop while the teacher looks ahead, too."""
        self._stop_if_asked()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._score = trainer.callback_metrics[_METRIC].item()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        score, self._score = self._score, None
        best = score is not None and (self.best_score is None or score >= self.best_score)
        if best:
            self.best_score, self.best_epoch = score, trainer.current_epoch + 1
        self._save(trainer, self.files.best if best else self.files.last)
        if best and trainer.is_global_zero:
            link_atomic(self.files.best, self.files.last)
        self._stop_if_asked()

    def _save(self, trainer: Trainer, file: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # what was logged up to here is not logged again
        trainer.save_checkpoint(file)
        self._saved = time.monotonic()

    def _stop_if_asked(self) -> None:
        if self._asked == signal.SIGTERM:
            raise SIGTERMException
        if self._asked is not None:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._spent, self._started = self.seconds, None
        self._restore_handlers()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[_IDENTITY], checkpoint[_OPTIMIZER] = self.identity, _name(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "random": random_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score, self.best_epoch = state_dict["best_score"], state_dict["best_epoch"]
        self._spent, self._random = state_dict["seconds"], state_dict["random"]


def _name(trainer: Trainer) -> str:
    kind = type(trainer.optimizers[0])
    return f"{kind.__module__}.{kind.__qualname__}"
