"""Reused teacher classifier (SimKD): matches the teacher's last map, then uses its classifier.

    L = ⟨(P(F_s) − F_t)²⟩,    logits at inference = h_t(average over positions of P(F_s))

P is conv1×1 – conv3×3 – conv1×1, each with batch norm and ReLU, C_t / reduction channels wide in
between; h_t is the teacher's frozen head.

Paper: Chen, Mei, Zhang, Wang, Feng & Chen, "Knowledge Distillation with the Reused Teacher
Classifier", CVPR 2022, https://arxiv.org/abs/2203.14001.

The student's own head receives no gradient and its logits are meaningless; the deployed net
returns `inference_logits`, and P and h_t are part of it. As in the paper, the map of the higher
resolution is averaged down to the other's. P ends in a ReLU, so the teacher's map must, too.

Reduction: ⟨·⟩ is the mean over the batch, channels and positions.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.heads import frozen_head
from kd.objectives.maps import IMAGES, paired_maps, resample, smaller_size
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def simkd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error of last maps.

    Args:
        student_map: projected maps [B, C_t, H, W].
        teacher_map: maps [B, C_t, H_t, W_t], resampled to the student's size.

    Returns:
        Scalar ≥ 0: mean over the batch, channels and positions.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> losses.simkd(torch.zeros(1, 1, 1, 1), torch.tensor([[[[1.0, 3.0]]]])).item()
        4.0

    Reference:
        Chen et al. 2022, https://arxiv.org/abs/2203.14001
    """
    teacher_map = resample(teacher_map, (student_map.shape[2], student_map.shape[3]))
    return F.mse_loss(student_map.float(), teacher_map.float())


def projector(in_channels: int, out_channels: int, reduction: int) -> nn.Sequential:
    """1×1, 3×3 and 1×1 convolutions, each with batch norm and ReLU.

    Args:
        in_channels: of the student's map.
        out_channels: of the teacher's map.
        reduction: the two inner layers have out_channels / reduction channels.
    """
    mid = max(out_channels // reduction, 1)
    layers: list[nn.Module] = []
    for i, o, kernel in ((in_channels, mid, 1), (mid, mid, 3), (mid, out_channels, 1)):
        convolution = nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False)
        layers += [convolution, nn.BatchNorm2d(o), nn.ReLU()]
    return nn.Sequential(*layers)


class ReusedClassifier(Objective):
    """Reused teacher classifier as a loss term; predicts with the teacher's head.

    Args:
        student_tap: canonical name of the student's last map.
        teacher_tap: canonical name of the teacher's map whose average over positions is the input
            of the teacher's head.
        reduction: whole number ≥ 1 by which P is narrower than the teacher's map.

    Raises:
        ValueError: `reduction` is out of range.
    """

    tasks = IMAGES
    family = "feature"
    tokens_as_maps = True
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
        student_map, teacher_map = paired_maps(
            "simkd", student, teacher, self.student_tap, self.teacher_tap
        )
        place = f"the average of tap {self.teacher_tap!r}, a map {list(teacher_map.shape)}"
        pooled = teacher_map.mean((2, 3))
        self.head = frozen_head(setting.teacher_head, pooled, teacher.logits, place)
        self.projector = projector(student_map.shape[1], teacher_map.shape[1], self.reduction)
        self.size = smaller_size(student_map, teacher_map)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the projector; the teacher's head stays in evaluation mode."""
        super().train(mode)
        self.head.eval()
        return self

    def project(self, student: Outputs) -> Tensor:
        """P(F_s) [B, C_t, H, W], in float32."""
        maps: Tensor = self.projector(resample(student.taps[self.student_tap], self.size))
        return maps.float()

    def inference_logits(self, student: Outputs) -> Tensor:
        pooled = self.project(student).mean((2, 3))
        # float32, as the logits of every net are under autocast
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.head(pooled)
        return logits

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return simkd(self.project(student), teacher.taps[self.teacher_tap])
