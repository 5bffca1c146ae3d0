"""PS-KD: the student is taught by what it answered an epoch ago.

Kim, Ji, Yoon & Hwang, "Self-Knowledge Distillation with Progressive Refinement of Targets", 2021.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.types import Batch, Outputs

# Log-odds of the label in the first epoch: exp(−100) leaves nothing of the other classes in
# float32, and exp(−25) at T = 4 as good as nothing.
CERTAIN = 100.0


class PSKDDistiller(Distiller):
    """The teacher's logits are the student's log-probabilities for the sample in the last epoch.

    They were given in training mode, to the view that epoch showed; in the first epoch the label
    stands in for them, and a sample that an epoch left out keeps its older answer. A mixed image's
    answer is kept for the first of its parts. Two tables [N, K] in float32 are in the checkpoint,
    so that a run resumed in mid-epoch goes on exactly.

    Args:
        **student: as `Distiller`.
    """

    teacher_kind = "itself"
    available_teacher_taps = ()
    one_device = "each device would know the past answers of its own samples only"
    past: Tensor  # log-probabilities [N, K] of the last epoch
    present: Tensor  # and those of this one, as far as it has come

    def __init__(self, **student: Any) -> None:
        super().__init__(**student)
        self._epoch = 0  # the one that `present` is of

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        labels = CERTAIN * (F.one_hot(targets, self.num_classes).float() - 1)
        self.register_buffer("past", labels)
        self.register_buffer("present", labels.clone())
        return super().build_adapters(images, targets)

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        student = self.student_taps.outputs(batch.input)
        # Also while nobody is taught: alpha may grow from 0.
        self.present[batch.index] = student.logits.detach().float().log_softmax(1)
        return {"": Pairing(student, Outputs(self.past[batch.index], {}) if with_teacher else None)}

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        student = self.student_taps.probe(images)
        return {"": Pairing(student, Outputs(student.logits.log_softmax(1), {}))}

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        super().on_train_batch_start(batch, batch_index)
        # Lightning leaves out on_train_epoch_start where a run is resumed in mid-epoch.
        self.turn_to(batch.epoch)

    def turn_to(self, epoch: int) -> None:
        """Let the present answers become the past ones, if `epoch` is another."""
        if epoch != self._epoch:
            self.past.copy_(self.present)
            self._epoch = epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["answers_of_epoch"] = self._epoch

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._epoch = checkpoint["answers_of_epoch"]
