"""One log line an epoch, where no progress bar is shown."""

import logging
import time
from typing import cast

from lightning import Callback, LightningModule, Trainer

from kd.distillers.evaluation import EvaluatedModule

log = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs loss, the selecting validation figure, speed and time left after every epoch.

    Without it a run in a file or under a scheduler is silent until its end. It is silent itself
    while a progress bar is shown.

    Args:
        label: the net that is trained, as "student resnet8".
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self._started = self._last = 0.0  # seconds of the clock: of training, of the last line
        self._first_epoch = 0
        self._images = 0  # since the last line

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = self._last = time.monotonic()
        self._first_epoch, self._images = trainer.current_epoch, 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        self._images += len(getattr(batch, "target", ())) * trainer.world_size

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning logs an epoch's means after the callbacks' on_train_epoch_end.
        if trainer.current_epoch > self._first_epoch:
            self._report(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(trainer)

    def _report(self, trainer: Trainer) -> None:
        bar = trainer.progress_bar_callback
        if not trainer.is_global_zero or getattr(bar, "is_shown", False):
            return
        done, now = trainer.current_epoch, time.monotonic()
        speed = self._images / max(now - self._last, 1e-9)
        epochs = max(done - self._first_epoch, 1)
        left = (now - self._started) / epochs * max((trainer.max_epochs or done) - done, 0)
        words = [
            f"{self.label}: epoch {done}/{trainer.max_epochs}".removeprefix(": "),
            epoch_figures(trainer),
            f"{speed:.0f} {self._samples(trainer)}/s",
            f"{duration(left)} left",
        ]
        log.info(", ".join(word for word in words if word))
        self._last, self._images = now, 0

    @staticmethod
    def _samples(trainer: Trainer) -> str:
        return f"{cast(EvaluatedModule, trainer.lightning_module).task.sample}s"


def epoch_figures(trainer: Trainer) -> str:
    """Return loss and the selecting validation figure of the last epoch; "" before its end."""
    task = cast(EvaluatedModule, trainer.lightning_module).task
    names = {"train/loss": "train loss", task.monitor: f"validation {task.figure}"}
    known = trainer.callback_metrics
    return ", ".join(f"{text} {known[key]:.4f}" for key, text in names.items() if key in known)


def total_batches(trainer: Trainer) -> int:
    """Return the number of batches of all epochs, fewer where `max_steps` ends the training."""
    batches = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
    limit = trainer.max_steps * trainer.accumulate_grad_batches
    return batches if limit < 0 else min(batches, limit)


def duration(seconds: float) -> str:
    """Return seconds in the two largest units.

    Example:
        >>> duration(7), duration(192), duration(7400)
        ('7 s', '3 min 12 s', '2 h 3 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
