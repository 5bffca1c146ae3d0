"""CS-KD: the student is taught by its own answer to another image of the same class.

Yun, Park, Lee & Shin, "Regularizing Class-wise Predictions via Self-knowledge Distillation", 2020.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from kd.data.loader import TensorLoader
from kd.data.same_class import SameClass
from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.objectives.base import Objective
from kd.types import Batch, Outputs


class CSKDDistiller(Distiller):
    """Every sample's teacher is the net's own outputs of a partner, in training mode, detached.

    SameClass are other training samples of the class, drawn anew each epoch from (data seed, epoch,
    index), in the view that the epoch shows them in, without `data.augment`; of a mixed image the
    first part counts. Only the single image of a class is paired with itself. As in the authors'
    code, partners pass through the net in a batch of their own, which moves the running statistics
    of batch norm a second time.

    Args:
        objectives: as `Distiller`.
        **student: as `Distiller`.
    """

    teacher_kind = "itself"

    def __init__(self, objectives: Mapping[str, Objective], **student: Any) -> None:
        reads = [tap for objective in objectives.values() for tap in objective.teacher_taps]
        super().__init__(objectives=objectives, reads=reads, **student)
        self._partners: SameClass | None = None

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        # The student first: autocast would keep the weights that a pass without gradients casts,
        # and the student's pass would get none.
        student = self.student_taps.outputs(batch.input)
        return {"": Pairing(student, self._partners_trace(batch) if with_teacher else None)}

    @torch.no_grad()
    def _partners_trace(self, batch: Batch) -> Outputs:
        loader = cast(TensorLoader, self.trainer.train_dataloader)
        if self._partners is None:
            self._partners = SameClass(loader.sampler.rows, loader.targets)
        index = batch.index.to(loader.targets.device)
        partner = self._partners.draw(loader.seed, batch.epoch, index)
        shown = loader.show(partner, loader.views(partner, batch.epoch))
        images = loader.normalise(shown.input)
        return self.student_taps.outputs(images.to(batch.input.device))

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        student = self.student_taps.probe(images)
        # No teacher's head: it learns, and methods that read one copy it once.
        return {"": Pairing(student, student, student_head=self.student_taps.head)}
