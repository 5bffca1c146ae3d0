"""Progressive self-knowledge distillation (PS-KD): the student's outputs of the last epoch.

    L_e = CE(p_e(x), (1 − α_e)·y + α_e·p_(e−1)(x)),    α_e = α · e / E

Kim, Ji, Yoon & Hwang, "Self-Knowledge Distillation with Progressive Refinement of Targets", ICCV
2021, https://arxiv.org/abs/2006.12000. `experiment=pskd` has this loss. Other methods work as well
if they read logits alone, and these through their softmax: the log-odds of a label are unbounded.

Difference from the published code: it stores probabilities in one table that is overwritten during
the epoch. Here the log-probabilities of the last and of the current epoch are two tables, so that
a run resumed within an epoch continues exactly.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kd.distillers.base import Distiller
from kd.distillers.pairing import Pairing
from kd.types import Batch, Outputs

# Log-odds of the label in the first epoch: exp(−100) is 0 in float32, and at T = 4 exp(−25) = 1e-11
# is negligible.
CERTAIN = 100.0


class PSKDDistiller(Distiller):
    """The teacher logits are the student's log-probabilities for the sample in the last epoch.

    They were computed in training mode on the view of that epoch. In the first epoch they are the
    one-hot label; a sample that an epoch leaves out retains its older value. The outputs for a
    mixed image are stored under its first part. The checkpoint has both tables [N, K] in float32.

    Args:
        **student: as `Distiller`.
    """

    teacher_kind = "itself"
    available_teacher_taps = ()  # only logits are stored
    needs_index = True
    starts_certain = True
    one_device = "each device would know the past outputs of its own samples only"
    past: Tensor  # log-probabilities [N, K] of the last epoch
    present: Tensor  # log-probabilities [N, K] of the current epoch, as far as it is done

    def __init__(self, **student: Any) -> None:
        super().__init__(**student)
        self._epoch = 0  # the epoch of `present`

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        labels = CERTAIN * (F.one_hot(targets, self.num_classes).float() - 1)
        self.register_buffer("past", labels)
        self.register_buffer("present", labels.clone())
        return super().build_adapters(images, targets)

    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        student = self.student_taps.outputs(batch.input)
        # Also without a teacher term: a schedule may raise alpha from 0 later.
        self.present[batch.index] = student.logits.detach().float().log_softmax(1)
        return {"": Pairing(student, Outputs(self.past[batch.index], {}) if with_teacher else None)}

    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        student = self.student_taps.probe(images)
        return {"": Pairing(student, Outputs(student.logits.log_softmax(1), {}))}

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        super().on_train_batch_start(batch, batch_index)
        # Lightning does not call on_train_epoch_start when a run resumes within an epoch.
        self.start_epoch(batch.epoch)

    def start_epoch(self, epoch: int) -> None:
        """Make the present outputs the past ones if `epoch` is a new one."""
        if epoch != self._epoch:
            self.past.copy_(self.present)
            self._epoch = epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["outputs_of_epoch"] = self._epoch

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._epoch = checkpoint["outputs_of_epoch"]
