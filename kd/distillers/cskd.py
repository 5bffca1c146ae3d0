"""Class-wise self-distillation (CS-KD): the student's outputs on another image of the class.

    L = CE(x, y) + λ · T² · KL(p(x') ‖ p(x)),    x' of the class of x, no gradient through p(x')

Yun, Park, Lee & Shin, "Regularizing Class-wise Predictions via Self-knowledge Distillation",
CVPR 2020, https://arxiv.org/abs/2003.13964. As in the published code, x' passes through the net in
a batch of its own in training mode, which updates the running statistics of batch norm a second
time.
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
    """The teacher outputs are the student's own on a partner image of the same class.

    Partners are other training samples of the class, drawn in every epoch from (data seed, epoch,
    index), in the view of that epoch and without `data.augment`; for a mixed image, the class of
    its first part counts. The only image of a class is its own partner.

    Args:
        objectives: as `Distiller`.
        **student: as `Distiller`.
    """

    teacher_kind = "itself"
    needs_images = True

    def __init__(self, objectives: Mapping[str, Objective], **student: Any) -> None:
        reads = [tap for objective in objectives.values() for tap in objective.teacher_taps]
        super().__init__(objectives=objectives, reads=reads, **student)
        self._partners: SameClass | None = None

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        # The student first: autocast caches the cast weights of the first pass, and those of a
        # pass under no_grad would leave the student's pass without gradients
        # (https://github.com/pytorch/pytorch/issues/112583).
        student = self.student_taps.outputs(batch.input)
        return {"": Pairing(student, self._partner_outputs(batch) if with_teacher else None)}

    @torch.no_grad()
    def _partner_outputs(self, batch: Batch) -> Outputs:
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
        # No teacher_head: methods that read one copy it once, and this one is still trained.
        return {"": Pairing(student, student, student_head=self.student_taps.head)}
