"""Offline distillation: a pretrained, frozen teacher.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531. The teacher outputs belong to exactly the view of an image that
the student sees ("consistent teaching", Beyer et al. 2022, https://arxiv.org/abs/2106.05237),
whether they are cached or computed on the batch.
"""

from typing import Any, ClassVar, cast

from torch import Tensor

from kd.data.loader import TensorLoader
from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.teachers.base import Teacher
from kd.types import Batch, joined


class OfflineDistiller(Distiller):
    """A student distilled from a frozen teacher, or trained on labels alone.

    Args:
        teacher: live or cached; None: no objective reads one.
        test_logits: the teacher's logits [N, K] on the test set, in its order, for
            `test/agreement` without running the teacher again.
        **student: as `Distiller`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("image_classification", "text_classification", "detection")
    two_views = "rows"

    def __init__(
        self,
        teacher: Teacher | None = None,
        test_logits: Tensor | None = None,
        **student: Any,
    ) -> None:
        self._weights = {"": 1.0} if teacher is None else dict(teacher.pairing_weights)
        super().__init__(**student, pairings=tuple(self._weights))
        self.teacher = teacher
        self.test_logits = test_logits
        self._prepared_epoch = -1  # of the teacher outputs that are ready

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        student = self.student_taps.outputs(batch.input)
        if batch.second is not None:  # two passes: batch norm sees one kind of view at a time
            student = joined(student, self.student_taps.outputs(batch.second.input))
        if self.teacher is None or not with_teacher:
            return {name: Pairing(student, weight=weight) for name, weight in self._weights.items()}
        teacher = self.teacher.pairing_outputs(batch)
        return {name: Pairing(student, teacher[name], w) for name, w in self._weights.items()}

    def rows(self, batch: Batch) -> Batch:
        return batch.both()

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        student, head = self.student_taps.probe(images), self.student_taps.head
        if self.teacher is None:
            return {"": Pairing(student, student_head=head)}
        return {
            name: Pairing(
                student,
                outputs,
                self._weights[name],
                head,
                self.teacher.head,
                teacher_net=self.teacher.nets[0] if len(self.teacher.nets) == 1 else None,
                run_student=self.student_taps.outputs,
                run_teacher=self.teacher.run,
            )
            for name, outputs in self.teacher.example_outputs(images).items()
        }

    def compile_nets(self, mode: str) -> None:
        super().compile_nets(mode)
        if self.teacher is not None and self.teacher.output_source == "live":
            for net in self.teacher.nets:
                net.compile(mode=mode)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        super().on_train_batch_start(batch, batch_index)
        teacher = self.teacher
        if teacher is None or not self.uses_teacher or not teacher.needs_preparation:
            return
        # Lightning does not call on_train_epoch_start when a run resumes within an epoch.
        if self._prepared_epoch != batch.epoch:
            loader = cast(TensorLoader, self.trainer.train_dataloader)
            self._prepare(teacher, loader)
            self._prepared_epoch = batch.epoch
            if not teacher.matches(batch, loader):
                raise RuntimeError("the teacher outputs belong to other images than the batch")

    def _prepare(self, teacher: Teacher, loader: TensorLoader) -> None:
        """Compute the teacher outputs of the epoch that the cache lacks."""
        index = loader.sampler.order()[: self.trainer.num_training_batches * loader.batch_size]
        callbacks = [c for c in cast(Any, self.trainer).callbacks if hasattr(c, _PROGRESS_HOOK)]

        def report(done: int, total: int) -> None:
            for callback in callbacks:
                getattr(callback, _PROGRESS_HOOK)(done, total)

        with self.trainer.precision_plugin.forward_context():
            teacher.prepare(loader, index, report)

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        if self.test_logits is None:
            return None
        return self.test_logits[batch.index.cpu()].to(batch.input.device)


_PROGRESS_HOOK = "on_teacher_progress"  # of callbacks: (images done, images in total)
