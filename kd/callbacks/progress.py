"""What watches a run, keeps what others need of it, and ends it where it went wrong."""

import zlib
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from kd.distillers.base import HPARAMS_METRIC, Distiller
from kd.errors import UserError
from kd.io.atomic import write_whole
from kd.io.tensors import packed
from kd.io.weights import epoch_file
from kd.teachers.base import Teacher


class ProgressBar(RichProgressBar):
    """Lightning's rich progress bar without the logger's version, which is a folder name here.

    While the teacher answers in advance, a second bar shows how far it is.
    """

    _teacher_task: Any = None

    def get_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = super().get_metrics(*args, **kwargs)
        metrics.pop("v_num", None)
        return metrics

    def on_teacher_progress(self, done: int, wanted: int) -> None:
        """Show how many images the teacher has answered in advance, and how many it has to."""
        if self.is_disabled or self.progress is None:
            return
        if self._teacher_task is None:
            self._teacher_task = self._add_task(wanted, "the teacher looks ahead")
        if done < wanted:
            self._update(self._teacher_task, done)
        else:
            self.progress.remove_task(self._teacher_task)
            self._teacher_task = None
        self.refresh()


class LogHyperparameters(Callback):
    """Fill TensorBoard's HPARAMS tab with the run's settings and its validation accuracy.

    Args:
        hparams: flat plain settings.
    """

    def __init__(self, hparams: dict[str, Any]) -> None:
        self.hparams = hparams

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # The metric has to be announced with the settings, or the tab stays empty.
                logger.log_hyperparams(self.hparams, {HPARAMS_METRIC: float("nan")})
            else:
                logger.log_hyperparams(self.hparams)


class KeepEpochs(Callback):
    """Write the weights after every epoch, for students of a teacher that is stopped early.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        file = epoch_file(self.folder, trainer.current_epoch + 1)
        net = cast(Distiller, pl_module).deployed()
        write_whole(file, packed(net.state_dict()))


class TeacherUnchanged(Callback):
    """End the run if the teacher is not what it was: in eval mode, without gradients, unchanged.

    Its buffers are compared after every epoch: a net in training mode moves its batch statistics.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = self._state(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for net in self._nets(pl_module):
            training = [name or "the net" for name, part in net.named_modules() if part.training]
            trained = [name for name, value in net.named_parameters() if value.requires_grad]
            if training or trained:
                raise RuntimeError(
                    f"the teacher is no longer frozen: in training mode {training[:3]}, with "
                    f"gradients {trained[:3]}"
                )
        if self._state(pl_module) != self.before:
            raise RuntimeError("the teacher's buffers changed during the epoch")

    def _nets(self, module: LightningModule) -> Sequence[nn.Module]:
        teacher = getattr(module, "teacher", None)
        return teacher.nets if isinstance(teacher, Teacher) else ()

    def _state(self, module: LightningModule) -> list[int]:
        buffers = [buffer for net in self._nets(module) for buffer in net.buffers()]
        return [zlib.crc32(buffer.cpu().double().numpy().tobytes()) for buffer in buffers]


class StopOnDivergence(Callback):
    """End the run when a loss term is no longer finite, naming the step and the term.

    Every step's terms are checked on the device; the host asks for the verdict after every step on
    the CPU and every `every` steps elsewhere, so that an accelerator is not held up.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.first_bad: dict[str, torch.Tensor] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        terms, step = outputs["terms"], trainer.global_step
        on_cpu = outputs["loss"].device.type == "cpu"
        if on_cpu and all(isfinite(term.item()) for term in terms.values()):
            return
        for name, term in terms.items():
            known = self.first_bad.get(name, torch.full_like(term, -1))
            self.first_bad[name] = torch.where(~term.isfinite() & (known < 0), step, known)
        if on_cpu or step % self.every == 0:
            self._judge()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._judge()

    def _judge(self) -> None:
        steps = {name: int(step) for name, step in self.first_bad.items()}
        bad = [f"{name!r} (step {step})" for name, step in steps.items() if step >= 0]
        if bad:
            raise UserError(
                f"the loss is not finite: {', '.join(bad)}. Lower optimizer.lr or the term's "
                "weight, clip with trainer.gradient_clip_val=1, lengthen scheduler.warmup, or use "
                "trainer.precision=32-true"
            )
