"""Offline distillation: the teacher was trained before and stays as it is."""

from typing import Any

from torch import Tensor, nn

from kd.distillers.base import NO_TRACE, Distiller
from kd.teachers.frozen import FrozenTeacher
from kd.trace import Batch, Trace


class OfflineDistiller(Distiller):
    """A student under a frozen teacher (Hinton et al. 2015), or under labels alone.

    Args:
        teacher: the frozen net, or None where no objective needs one.
        test_logits: the teacher's logits [N, K] on the test set, in its order; they give the
            agreement without a second pass.
        **student: as `Distiller`.
    """

    def __init__(
        self, teacher: FrozenTeacher | None, test_logits: Tensor | None = None, **student: Any
    ) -> None:
        super().__init__(**student)
        self.teacher = teacher
        self.test_logits = test_logits

    def traces(self, batch: Batch) -> tuple[Trace, Trace]:
        teacher = NO_TRACE if self.teacher is None else self.teacher.trace(batch)
        return self.student_taps.trace(batch.input), teacher

    def probe(self, images: Tensor) -> tuple[Trace, Trace]:
        teacher = NO_TRACE if self.teacher is None else self.teacher.taps.probe(images)
        return self.student_taps.probe(images), teacher

    @property
    def teacher_head(self) -> nn.Module | None:
        return None if self.teacher is None else self.teacher.taps.head

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        if self.test_logits is None:
            return None
        return self.test_logits[batch.index.cpu()].to(batch.input.device)
