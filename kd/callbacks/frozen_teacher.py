"""Callback that verifies that the teacher stays frozen."""

import zlib
from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer
from torch import nn

from kd.teachers.base import Teacher


class FrozenTeacherCheck(Callback):
    """Raises an error if the teacher changed: training mode, gradients, or other buffers.

    Parts of it that train along, `Teacher.changing`, are left out.

    Buffers are compared after every epoch by their checksums, because a net in training mode
    updates its batch norm statistics even without an optimizer.

    Raises:
        RuntimeError: names the modules and parameters that changed.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.checksums = self._checksums(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        changing = self._changing(pl_module)
        for net in self._nets(pl_module):
            training = [
                name or "the net"
                for name, part in net.named_modules()
                if part.training and f"{name}.running_mean" not in changing
            ]
            trained = [
                name
                for name, value in net.named_parameters()
                if value.requires_grad and name not in changing
            ]
            if training or trained:
                raise RuntimeError(
                    f"the teacher is no longer frozen: modules in training mode {training[:3]}, "
                    f"parameters with gradients {trained[:3]}"
                )
        if self._checksums(pl_module) != self.checksums:
            raise RuntimeError("the teacher's buffers changed during the epoch")

    def _nets(self, module: LightningModule) -> Sequence[nn.Module]:
        teacher = getattr(module, "teacher", None)
        return teacher.nets if isinstance(teacher, Teacher) else ()

    def _changing(self, module: LightningModule) -> frozenset[str]:
        teacher = getattr(module, "teacher", None)
        return teacher.changing if isinstance(teacher, Teacher) else frozenset()

    def _checksums(self, module: LightningModule) -> list[int]:
        changing = self._changing(module)
        named = [pair for net in self._nets(module) for pair in net.named_buffers()]
        buffers = [buffer for name, buffer in named if name not in changing]
        # As float64: NumPy has no bfloat16, and the conversion is exact.
        return [zlib.crc32(buffer.cpu().double().numpy().tobytes()) for buffer in buffers]
