"""Offline distillation: the teacher was trained before and stays as it is."""

from typing import Any, cast

from torch import Tensor

from kd.data.loader import TensorLoader
from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.teachers.base import Teacher
from kd.types import Batch


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
        teacher: Teacher | None = None,
        test_logits: Tensor | None = None,
        **student: Any,
    ) -> None:
        self._shares = {"": 1.0} if teacher is None else dict(teacher.pairing_weights)
        super().__init__(**student, pairings=tuple(self._shares))
        self.teacher = teacher
        self.test_logits = test_logits
        self._prepared = -1  # the epoch the teacher is ready for

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        student = self.student_taps.outputs(batch.input)
        if self.teacher is None or not with_teacher:
            return {name: Pairing(student, weight=weight) for name, weight in self._shares.items()}
        all_outputs = self.teacher.pairing_outputs(batch)
        return {k: Pairing(student, all_outputs[k], weight) for k, weight in self._shares.items()}

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        student, head = self.student_taps.probe(images), self.student_taps.head
        if self.teacher is None:
            return {"": Pairing(student, student_head=head)}
        return {
            name: Pairing(student, outputs, self._shares[name], head, self.teacher.head)
            for name, outputs in self.teacher.example_outputs(images).items()
        }

    def compile_nets(self, mode: str) -> None:
        super().compile_nets(mode)
        if self.teacher is not None and self.teacher.output_source == "live":
            for net in self.teacher.nets:
                net.compile(mode=mode)

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        super().on_train_batch_start(batch, batch_index)
        # Lightning leaves out on_train_epoch_start where a run is resumed in mid-epoch.
        if self.teacher is not None and self.uses_teacher and self._prepared != batch.epoch:
            loader = cast(TensorLoader, self.trainer.train_dataloader)
            self._prepare(self.teacher, loader)
            self._prepared = batch.epoch
            if not self.teacher.saw(batch, loader):
                raise RuntimeError("the teacher's answers are to other images than the student's")

    def _prepare(self, teacher: Teacher, loader: TensorLoader) -> None:
        """Let the teacher look at the epoch's images in advance, if it keeps its answers."""
        index = loader.sampler.order()[: self.trainer.num_training_batches * loader.batch_size]
        watching = [
            callback.on_teacher_progress
            for callback in cast(Any, self.trainer).callbacks
            if hasattr(callback, "on_teacher_progress")
        ]

        def report(done: int, wanted: int) -> None:
            for told in watching:
                told(done, wanted)

        with self.trainer.precision_plugin.forward_context():
            teacher.prepare(loader, index, report)

    def teacher_test_logits(self, batch: Batch) -> Tensor | None:
        if self.test_logits is None:
            return None
        return self.test_logits[batch.index.cpu()].to(batch.input.device)
