"""Offline distillation: a pretrained teacher, frozen but for parts that may train along.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531. The teacher outputs belong to exactly the view of an image that
the student sees ("consistent teaching", Beyer et al. 2022, https://arxiv.org/abs/2106.05237),
whether they are cached or computed on the batch.
"""

from typing import Any, ClassVar, Literal, cast

from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from kd.data.loader import TensorLoader
from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing, term_name
from kd.teachers.base import Teacher
from kd.teachers.updated import UpdatedTeacher, detached
from kd.types import Batch, Outputs, joined

TEACHER = "teacher"  # pairing of the labels with a teacher of which parts train


class OfflineDistiller(Distiller):
    """A student distilled from a frozen teacher, or trained on labels alone.

    Args:
        teacher: live or cached; None: no objective reads one. Parts of an `UpdatedTeacher` train.
        test_logits: the teacher's logits [N, K] on the test set, in its order, for
            `test/agreement` without running the teacher again.
        **student: as `Distiller`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("image_classification", "text_classification", "detection")
    two_views: ClassVar[Literal["", "rows", "nets"]] = "rows"

    def __init__(
        self,
        teacher: Teacher | None = None,
        test_logits: Tensor | None = None,
        **student: Any,
    ) -> None:
        self._weights = {"": 1.0} if teacher is None else dict(teacher.pairing_weights)
        update = teacher if isinstance(teacher, UpdatedTeacher) else None
        taught = (TEACHER,) if update is not None and update.learns_labels else ()
        super().__init__(**student, pairings=tuple(self._weights), labels_only=taught)
        for name, term in self.terms_of(TEACHER).items():
            if not term.fits_every_net:  # it is about the student, as masked words are
                del self.objectives[term_name(TEACHER, name)]
        self.teacher = teacher
        self.teacher_figures = None if update is None else self.task.evaluation(self.num_classes)
        self._updated_accuracy: float | None = None
        self.test_logits = test_logits
        self._prepared_epoch = -1  # of the teacher outputs that are ready

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        student = self.student_taps.outputs(batch.input)
        if batch.second is not None:  # two passes: batch norm sees one kind of view at a time
            student = joined(student, self.student_taps.outputs(batch.second.input))
        if self.teacher is None or not with_teacher:
            return {name: Pairing(student, weight=weight) for name, weight in self._weights.items()}
        teacher = self.teacher.pairing_outputs(batch)
        if self.update is not None:
            return self._updating(self.update, student, teacher[""])
        return {name: Pairing(student, teacher[name], w) for name, w in self._weights.items()}

    def rows(self, batch: Batch) -> Batch:
        return batch.both()

    @property
    def update(self) -> UpdatedTeacher | None:
        """The teacher, if parts of it train."""
        return self.teacher if isinstance(self.teacher, UpdatedTeacher) else None

    def _updating(
        self, update: UpdatedTeacher, student: Outputs, teacher: Outputs
    ) -> dict[str, Pairing]:
        """The student's pairing, and the teacher's with the labels."""
        theirs = teacher if update.learns_method else detached(teacher)
        pairings = {"": Pairing(student, theirs)}
        return pairings | ({TEACHER: Pairing(teacher)} if update.learns_labels else {})

    def parameter_groups(self) -> ParamsT:
        update, every = self.update, super().parameter_groups()
        if update is None or update.rate is None:
            return every
        theirs = update.trained()
        known = {id(parameter) for parameter in theirs}
        own = [p for p in cast(list[nn.Parameter], every) if id(p) not in known]
        groups: list[dict[str, Any]] = [{"params": own}, {"params": theirs, "lr": update.rate}]
        return groups

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
                self.teacher.pairing_head(name),
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
        if self.update is not None and self.teacher_figures is not None:
            now = self.update.outputs(batch).logits  # of the weights that are tested
            self.teacher_figures.update(now, batch.target)
            return now
        if self.test_logits is None:
            return None
        return self.test_logits[batch.index.cpu()].to(batch.input.device)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        if self.teacher_figures is not None:
            self._updated_accuracy = self.teacher_figures.compute()["acc"].item()

    def weights(self) -> dict[str, dict[str, Tensor]]:
        found = super().weights()
        return found if self.update is None else found | {TEACHER: self.update.nets[0].state_dict()}

    def results(self) -> dict[str, Any]:
        update = self.update
        if update is None:
            return super().results()
        said = {"teacher/update": list(update.parts), "teacher/update_loss": update.loss}
        return super().results() | said | {"teacher/test/acc_updated": self._updated_accuracy}


_PROGRESS_HOOK = "on_teacher_progress"  # of callbacks: (images done, images in total)
