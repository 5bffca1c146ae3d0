"""Checks that the teacher stays frozen."""

import zlib
from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer
from torch import nn

from kd.teachers.base import Teacher


class FrozenTeacherCheck(Callback):
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
