"""Hints: L = ⟨(r(F_s) − F_t)²⟩ over every element, r a trained regressor.

Romero et al., "FitNets: Hints for Thin Deep Nets", 2015. The paper sums the squares of one sample
and halves them; the mean over elements used here (as by most public code) keeps the weight portable
across shapes. The paper's regressor is an unpadded convolution of the size that closes the gap,
followed by the teacher's non-linearity. Here it is a 1×1 convolution after resampling to the
teacher's resolution, so that any pair of nets fits, with batch norm behind it, without which the
usual weight of 100 diverges at the usual learning rates.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.maps import resample
from kd.types import Batch, Outputs


class Hint(Objective):
    """Mean squared error between the regressed student tensor and the teacher's.

    Two maps [B, C, H, W] are compared at the teacher's resolution, two vectors [B, D] as they are;
    where only one side has a map, it is averaged over its positions first.

    Args:
        student_tap: where the student is guided.
        teacher_tap: where the hint is read.
    """

    family = "feature"

    def __init__(self, student_tap: str = "stage2", teacher_tap: str = "stage2") -> None:
        super().__init__()
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.regressor: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = student.taps[self.student_tap], teacher.taps[self.teacher_tap]
        if ours.dim() not in (2, 4) or theirs.dim() not in (2, 4):
            raise UserError(
                f"a hint needs maps [B, C, H, W] or vectors [B, D]; student tap "
                f"{self.student_tap!r} has {list(ours.shape)}, teacher tap {self.teacher_tap!r} "
                f"has {list(theirs.shape)}"
            )
        narrow, wide = ours.shape[1], theirs.shape[1]
        if ours.dim() == theirs.dim() == 4:
            layers = [nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide)]
        else:
            layers = [nn.Linear(narrow, wide, bias=False), nn.BatchNorm1d(wide)]
        self.regressor = nn.Sequential(*layers)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = student.taps[self.student_tap], teacher.taps[self.teacher_tap]
        if ours.dim() == theirs.dim() == 4:
            ours = resample(ours, (theirs.shape[2], theirs.shape[3]))
        else:
            ours, theirs = _vector(ours), _vector(theirs)
        return F.mse_loss(self.regressor(ours).float(), theirs.float())


def _vector(tensor: Tensor) -> Tensor:
    return tensor.mean((2, 3)) if tensor.dim() == 4 else tensor
