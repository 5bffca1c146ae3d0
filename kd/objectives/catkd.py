"""Where each class is seen: class activation maps, averaged to a coarse grid, as directions.

    A[b, k, :, :] = Σ_c W[k, c] · F[b, c, :, :],    φ = average over a grid of n×n cells
    L = (1/(B·K)) Σ_b Σ_k ‖φ(A_s)/‖φ(A_s)‖₂ − φ(A_t)/‖φ(A_t)‖₂‖²₂

F is a net's last map and W its classifier's weight: the teacher's is a frozen copy, the student's
the live one, which the loss trains, too. The squares are summed over positions.

Guo, Yan, Li & Lin, "Class Attention Transfer Based Knowledge Distillation", 2023. The authors' code
also averages over the n² positions, with weights from 0.7 to 600 a pair of nets; their bias, if the
classifier has one, is left out here as in the paper's definition. A student whose head does not
read its last map (MobileNetV2 widens it once more) gets a trained 1×1 convolution in between.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.heads import frozen_head
from kd.objectives.maps import paired_maps, resample
from kd.types import Batch, Outputs


def class_maps(maps: Tensor, weight: Tensor, grid: tuple[int, int]) -> Tensor:
    """Unit-length class activation maps [B, K, cells] of maps [B, C, H, W] and weight [K, C]."""
    with torch.autocast(maps.device.type, enabled=False):
        activation = F.conv2d(resample(maps.float(), grid), weight.float()[:, :, None, None])
    return F.normalize(activation.flatten(2), dim=2)


def class_map_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of class maps [B, K, cells]; summed over cells, mean over B·K."""
    return (student - teacher).square().sum(2).mean()


class ClassAttention(Objective):
    """Squared distance between the nets' normalised class activation maps.

    Args:
        student_tap: the student's last map.
        teacher_tap: the map whose average over positions is the input of the teacher's head.
        grid: n, cells a side; maps with fewer positions are compared as they are.
    """

    family = "feature"
    copies_head = True

    def __init__(
        self, student_tap: str = "stage3", teacher_tap: str = "stage3", grid: int = 2
    ) -> None:
        super().__init__()
        if grid < 1:
            raise ValueError(f"grid must be a whole number ≥ 1, got {grid!r}")
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.grid = grid
        self.cells = (grid, grid)
        self.align: nn.Module = nn.Identity()
        self.teacher_weight: Tensor
        # in a tuple, so that the student's head is no submodule
        self.student_head: tuple[nn.Linear, ...] = ()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = paired_maps("catkd", student, teacher, self.student_tap, self.teacher_tap)
        place = f"the average of tap {self.teacher_tap!r}, a map {list(theirs.shape)}"
        copy = frozen_head(setting.teacher_head, theirs.mean((2, 3)), teacher.logits, place)
        self.register_buffer("teacher_weight", _linear("teacher", copy).weight.detach())
        head = _linear("student", setting.student_head)
        if ours.shape[1] != head.in_features:
            self.align = nn.Conv2d(ours.shape[1], head.in_features, 1, bias=False)
        self.student_head = (head,)
        sides = (ours.shape[2], ours.shape[3], theirs.shape[2], theirs.shape[3])
        self.cells = (min(self.grid, *sides[::2]), min(self.grid, *sides[1::2]))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours = self.align(student.taps[self.student_tap])
        return class_map_distance(
            class_maps(ours, self.student_head[0].weight, self.cells),
            class_maps(teacher.taps[self.teacher_tap], self.teacher_weight, self.cells),
        )


def _linear(role: str, head: nn.Module | None) -> nn.Linear:
    if not isinstance(head, nn.Linear):
        raise UserError(
            f"catkd reads the weight of the {role}'s classifier, which must be a linear layer with "
            f"the tap 'embedding' as its input; the {role} has {head}"
        )
    return head
