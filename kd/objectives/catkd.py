"""Class attention transfer: matches class activation maps, pooled to a coarse grid.

    A[b, k, :, :] = Σ_c W[k, c] · F[b, c, :, :],    φ = average over a grid of n×n cells
    L = (1/(B·K)) Σ_b Σ_k ‖φ(A_s)/‖φ(A_s)‖₂ − φ(A_t)/‖φ(A_t)‖₂‖²₂

F is a net's last map and W [K, C] the weight of its classifier: a frozen copy of the teacher's, and
the student's own, which the loss trains as well.

Paper: Guo, Yan, Li & Lin, "Class Attention Transfer Based Knowledge Distillation", CVPR 2023,
https://arxiv.org/abs/2304.12777.

The authors' code also averages over the n² positions, with weights from 0.7 to 600 depending on the
pair of nets. The bias of the classifier is omitted, as in the paper's definition. A student whose
classifier does not read its last map (MobileNetV2 widens it once more) gets a trained 1×1
convolution in between.

Reduction: sum over cells, mean over classes and the batch.
"""

import logging

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.heads import frozen_head, linear_head
from kd.objectives.maps import IMAGES, paired_maps, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

log = logging.getLogger(__name__)


def catkd(
    student_map: Tensor,
    teacher_map: Tensor,
    student_weight: Tensor,
    teacher_weight: Tensor,
    grid: int = 2,
) -> Tensor:
    """Squared distance between normalised class activation maps.

    Args:
        student_map: last map [B, C_s, H, W].
        teacher_map: last map [B, C_t, H', W'].
        student_weight: weight [K, C_s] of the student's classifier.
        teacher_weight: weight [K, C_t] of the teacher's classifier.
        grid: n ≥ 1, cells per side; no more than the positions of the smaller map.

    Returns:
        Scalar in [0, 4]: sum over cells, mean over classes and the batch.

    Example:
        The same map, and classifiers that differ in scale only:

        >>> import torch
        >>> from kd import losses
        >>> maps, weight = torch.arange(32.0).view(1, 2, 4, 4), torch.eye(3, 2)
        >>> losses.catkd(maps, maps, weight, 5 * weight).item() < 1e-9
        True

    Reference:
        Guo et al. 2023, https://arxiv.org/abs/2304.12777
    """
    sides = (*student_map.shape[2:], *teacher_map.shape[2:])
    cells = (min(grid, *sides[::2]), min(grid, *sides[1::2]))
    student = class_maps(student_map, student_weight, cells)
    teacher = class_maps(teacher_map, teacher_weight, cells)
    return class_map_distance(student, teacher)


def class_map_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of class maps [B, K, cells]; sum over cells, mean over B·K."""
    return (student - teacher).square().sum(2).mean()


def class_maps(maps: Tensor, weight: Tensor, grid: tuple[int, int]) -> Tensor:
    """Unit-length class activation maps [B, K, cells] of maps [B, C, H, W] and weight [K, C]."""
    with torch.autocast(maps.device.type, enabled=False):
        activation = F.conv2d(resample(upcast(maps), grid), upcast(weight)[:, :, None, None])
    return F.normalize(activation.flatten(2), dim=2)


class ClassAttention(Objective):
    """Class attention transfer as a loss term.

    Args:
        student_tap: canonical name of the student's last map [B, C, H, W].
        teacher_tap: canonical name of the map whose average over positions is the input of the
            teacher's head.
        grid: n ≥ 1, cells per side; maps with fewer positions are compared as they are.

    Raises:
        ValueError: `grid` is out of range.
    """

    tasks = IMAGES
    family = "feature"
    refuses_tokens = "class activation maps need a classifier on the average of the last map"
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
        self.align: nn.Module = nn.Identity()
        self.teacher_weight: Tensor
        # In a tuple, which torch does not register: the head is the student's parameter.
        self.student_head: tuple[nn.Linear, ...] = ()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        student_map, teacher_map = paired_maps(
            "catkd", student, teacher, self.student_tap, self.teacher_tap
        )
        if 1 in (student_map[0, 0].numel(), teacher_map[0, 0].numel()):
            log.warning(
                "catkd compares positions, and the last maps %s of the student and %s of the "
                "teacher have one in common: the term has no gradient; use larger images or a "
                "teacher with a larger last map",
                *(list(student_map.shape[1:]), list(teacher_map.shape[1:])),
            )
        source = f"the average of tap {self.teacher_tap!r}, a map {list(teacher_map.shape)}"
        pooled = teacher_map.mean((2, 3))
        copy = frozen_head(setting.teacher_head, pooled, teacher.logits, source)
        self.register_buffer(
            "teacher_weight", linear_head("catkd", "teacher", copy).weight.detach()
        )
        head = linear_head("catkd", "student", setting.student_head)
        if student_map.shape[1] != head.in_features:
            self.align = nn.Conv2d(student_map.shape[1], head.in_features, 1, bias=False)
        self.student_head = (head,)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_map = self.align(student.taps[self.student_tap])
        weights = (self.student_head[0].weight, self.teacher_weight)
        return catkd(student_map, teacher.taps[self.teacher_tap], *weights, self.grid)
