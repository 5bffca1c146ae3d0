"""The teacher's last map, matched by a projection that then feeds the teacher's own classifier.

    L = ⟨(P(F_s) − F_t)²⟩,    student's answer at inference = h_t(average over positions of P(F_s))

⟨·⟩ is the mean over the batch, channels and positions. P is conv1×1 – conv3×3 – conv1×1, each with
batch norm and ReLU, C_t / reduction channels wide in between; h_t is the teacher's head, frozen.

Chen, Mei, Zhang, Wang, Feng & Chen, "Knowledge Distillation with the Reused Teacher Classifier",
2022. The student's own head gets no gradient and its logits mean nothing: `answer` gives those that
count, and P and h_t belong to the net that is deployed. As in the paper, the map of the higher
resolution is averaged down to the other's. P ends in a ReLU, so the teacher's map must, too.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.heads import frozen_head
from kd.objectives.maps import paired_maps, resample, smaller_size
from kd.types import Batch, Outputs


def projector(narrow: int, wide: int, reduction: int) -> nn.Sequential:
    """1×1, 3×3 and 1×1 convolutions with batch norm and ReLU, narrower in between."""
    mid = max(wide // reduction, 1)
    layers: list[nn.Module] = []
    for i, o, kernel in ((narrow, mid, 1), (mid, mid, 3), (mid, wide, 1)):
        convolution = nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(o), nn.ReLU()]
    return nn.Sequential(*layers)


class ReusedClassifier(Objective):
    """Mean squared error between the projected student map and the teacher's; answers by its head.

    Args:
        student_tap: the student's last map.
        teacher_tap: the map whose average over positions is the input of the teacher's head.
        reduction: by how much P is narrower than the teacher's map.
    """

    family = "feature"
    copies_head = True

    def __init__(
        self, student_tap: str = "stage3", teacher_tap: str = "stage3", reduction: int = 2
    ) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be a whole number ≥ 1, got {reduction!r}")
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.reduction = reduction
        self.size = (1, 1)
        self.projector: nn.Module = nn.Identity()
        self.head: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = paired_maps("simkd", student, teacher, self.student_tap, self.teacher_tap)
        place = f"the average of tap {self.teacher_tap!r}, a map {list(theirs.shape)}"
        pooled = theirs.mean((2, 3))
        self.head = frozen_head(setting.teacher_head, pooled, teacher.logits, place)
        self.projector = projector(ours.shape[1], theirs.shape[1], self.reduction)
        self.size = smaller_size(ours, theirs)

    def train(self, mode: bool = True) -> Self:
        """Keep the teacher's head in eval mode."""
        super().train(mode)
        self.head.eval()
        return self

    def project(self, student: Outputs) -> Tensor:
        """P(F_s) [B, C_t, H, W], in float32."""
        maps: Tensor = self.projector(resample(student.taps[self.student_tap], self.size))
        return maps.float()

    def answer(self, student: Outputs) -> Tensor:
        pooled = self.project(student).mean((2, 3))
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled)
        return logits

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        theirs = resample(teacher.taps[self.teacher_tap], self.size)
        return F.mse_loss(self.project(student), theirs.float())
