"""Offline distillation: the teacher was trained before and stays as it is."""

from typing import Any, cast

from torch import Tensor, nn

from kd.data.loader import TensorLoader
from kd.distillers.base import NO_TRACE, Distiller
from kd.teachers.cached import Teacher
from kd.trace import Batch, Trace


class OfflineDistiller(Distiller):
    """A student under a frozen teacher (Hinton et al. 2015), or under labels alone.

    Args:
        teacher: live or cached, or None where no objective needs one.
        test_logits: the teacher's logits [N, K] on the test set, in its order; they give the
            agreement without a second pass.
        **student: as `Distiller`.
    """

    def __init__(
        self,
        teacher: Teacher | None,
        test_logits: Tensor | None = None,
        **student: Any,
    ) -> None:
        super().__init__(**student)
        self.teacher = teacher
        self.test_logits = test_logits
        self._prepared = -1  # the epoch the teacher is ready for

    def traces(self, batch: Batch) -> tuple[Trace, Trace]:
        teacher = NO_TRACE if self.teacher is None else self.teacher.trace(batch)
        return self.student_taps.trace(batch.input), teacher

    def probe(self, images: Tensor) -> tuple[Trace, Trace]:
        teacher = NO_TRACE if self.teacher is None else self.teacher.taps.probe(images)
        return self.student_taps.probe(images), teacher

    @property
    def teacher_head(self) -> nn.Module | None:
        return None if self.teacher is None else self.teacher.taps.head

    def compile_nets(self, mode: str) -> None:
        super().compile_nets(mode)
        if self.teacher is not None and self.teacher.answers == "live":
            self.teacher.taps.net.compile(mode=mode)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        super().on_train_batch_start(batch, batch_index)
        # Lightning leaves out on_train_epoch_start where a run is resumed in mid-epoch.
        loader = cast(TensorLoader, self.trainer.train_dataloader)
        if self.teacher is not None and self._prepared != loader.sampler.epoch:
            self._prepare(self.teacher, loader)
            self._prepared = loader.sampler.epoch

    def _prepare(self, teacher: Teacher, loader: TensorLoader) -> None:
        """Let the teacher look at the epoch's images in advance, if it keeps its answers."""
        index = loader.sampler.order()[: self.trainer.num_training_batches * loader.batch_size]
        bar = self.trainer.progress_bar_callback
        report = getattr(bar, "on_teacher_progress", lambda done, wanted: None)
        with self.trainer.precision_plugin.forward_context():
            teacher.prepare(loader, index, report)

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        if self.test_logits is None:
            return None
        return self.test_logits[batch.index.cpu()].to(batch.input.device)
