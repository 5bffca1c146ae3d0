"""Progress bar of a run's training, of the computation of teacher outputs, and of its test."""

import logging
import sys
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kd.callbacks.epoch_lines import epoch_figures, total_batches


class ProgressBar(LightningProgressBar):
    """One bar for the whole training of a net, with the time left for all of its epochs.

    Log lines and tables are printed above the bar. Without a terminal there is no bar, and
    `kd.callbacks.epoch_lines.EpochLines` reports instead. Lightning's `RichProgressBar` has a bar,
    and a remaining time, for each epoch, and reads the figures from the device at every step.

    Args:
        label: the net that is trained, as "student resnet8".
        refresh_rate: updates a second.
    """

    def __init__(self, label: str = "", refresh_rate: float = 10) -> None:
        super().__init__()
        self.label, self.refresh_rate = label, refresh_rate
        self.progress: Progress | None = None
        self._enabled = True
        self._tasks: dict[str, TaskID] = {}
        self._handlers: list[tuple[Any, Any]] = []  # of logging, with their streams

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    @property
    def is_shown(self) -> bool:
        """Whether there is a terminal, and the bar is enabled."""
        return self._enabled and Console().is_terminal

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open()
        done = trainer.current_epoch * int(trainer.num_training_batches)
        self._add("train", self.label, total_batches(trainer), completed=done)
        self._show_epoch(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_epoch(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        self._update("train", completed=done)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._update("train", figures=epoch_figures(trainer))
        self._close()

    def on_teacher_progress(self, done: int, total: int) -> None:
        """Show how many of the missing teacher outputs are computed.

        Args:
            done: images processed.
            total: images to process; the bar disappears when `done` reaches it.
        """
        if "teacher" not in self._tasks:
            self._add("teacher", "teacher outputs", total, counts="images")
        self._update("teacher", completed=done)
        if done >= total:
            self._remove("teacher")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._add("val", "validation", sum(int(n) for n in trainer.num_val_batches))

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self._update("val", advance=1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._remove("val")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._open(transient=True)
        self._add("test", f"test of {self.label}", sum(int(n) for n in trainer.num_test_batches))

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        self._update("test", advance=1)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _open(self, transient: bool = False) -> None:
        if not self.is_shown:
            return
        columns = (
            *(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}")),
            *(TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}")),
        )
        # A long period: the mean speed of the training, not that of the last seconds.
        self.progress = Progress(
            *columns,
            refresh_per_second=self.refresh_rate,
            transient=transient,
            speed_estimate_period=600,
        )
        self._redirect_logs(self.progress)

    def _redirect_logs(self, progress: Progress) -> None:
        """Start the bar and print log lines above it; handlers hold the streams it replaces."""
        streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        progress.start()
        for handler in logging.getLogger().handlers:
            for name, stream in streams.items():
                if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                    self._handlers.append((handler, handler.setStream(getattr(sys, name))))

    def _close(self) -> None:
        if self.progress is None:
            return
        self.progress.stop()
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self.progress, self._tasks, self._handlers = None, {}, []

    def _add(self, name: str, label: str, total: int, completed: int = 0, counts: str = "") -> None:
        if self.progress is not None:
            self._tasks[name] = self.progress.add_task(
                label, total=total, completed=completed, counts=counts, figures=""
            )

    def _update(self, name: str, **fields: Any) -> None:
        if self.progress is not None and name in self._tasks:
            self.progress.update(self._tasks[name], **fields)

    def _remove(self, name: str) -> None:
        if self.progress is not None and name in self._tasks:
            self.progress.remove_task(self._tasks.pop(name))

    def _show_epoch(self, trainer: Trainer) -> None:
        counts = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._update("train", counts=counts, figures=epoch_figures(trainer))
