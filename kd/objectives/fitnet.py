"""FitNets: matches a hint, an inner tensor of the teacher, by a trained regressor.

    L = ⟨(r(F_s) − F_t)²⟩ over every element

Paper: Romero, Ballas, Kahou, Chassang, Gatta & Bengio, "FitNets: Hints for Thin Deep Nets", ICLR
2015, https://arxiv.org/abs/1412.6550.

The paper sums the squares of one sample and halves them; the mean over elements, as in most public
code, keeps the weight portable across shapes. The paper's regressor is an unpadded convolution of
the size that closes the gap, followed by the teacher's non-linearity. Here it is a 1×1 convolution
after resampling to the teacher's resolution, so that any pair of nets fits. It has batch norm,
without which the usual weight of 100 diverges at the usual learning rates.

Reduction: mean over the batch, channels and positions.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.maps import resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def fitnet(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error between a regressed student tensor and the teacher's.

    Args:
        student_map: r(F_s), maps [B, C, H, W] or vectors [B, D].
        teacher_map: the teacher's tensor, of the same shape.

    Returns:
        Scalar ≥ 0: mean over all elements.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> losses.fitnet(torch.zeros(1, 2, 4, 4), torch.full((1, 2, 4, 4), 3.0))
        tensor(9.)

    Reference:
        Romero et al. 2015, https://arxiv.org/abs/1412.6550
    """
    return F.mse_loss(upcast(student_map), upcast(teacher_map))


feature = fitnet  # the method `feature` adds this term to labels and soft targets with its own taps


class Hint(Objective):
    """FitNets' hint as a loss term, with a trained regressor.

    Two maps [B, C, H, W] are compared at the teacher's resolution, two vectors [B, D] as they are;
    where only one net has a map, it is averaged over its positions first.

    Args:
        student_tap: canonical name of the student's tap (the guided layer).
        teacher_tap: canonical name of the teacher's tap (the hint).
    """

    family = "feature"
    tokens_as_maps = True
    tasks = (*Objective.tasks, "detection")

    def __init__(self, student_tap: str = "stage2", teacher_tap: str = "stage2") -> None:
        super().__init__()
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.regressor: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        guided, hint = student.taps[self.student_tap], teacher.taps[self.teacher_tap]
        if guided.dim() not in (2, 4) or hint.dim() not in (2, 4):
            raise UserError(
                f"a hint needs maps [B, C, H, W] or vectors [B, D]; student tap "
                f"{self.student_tap!r} has {list(guided.shape)}, teacher tap {self.teacher_tap!r} "
                f"has {list(hint.shape)}"
            )
        narrow, wide = guided.shape[1], hint.shape[1]
        if guided.dim() == hint.dim() == 4:
            layers = [nn.Conv2d(narrow, wide, 1, bias=False), nn.BatchNorm2d(wide)]
        else:
            layers = [nn.Linear(narrow, wide, bias=False), nn.BatchNorm1d(wide)]
        self.regressor = nn.Sequential(*layers)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        guided, hint = student.taps[self.student_tap], teacher.taps[self.teacher_tap]
        if guided.dim() == hint.dim() == 4:
            guided = resample(guided, (hint.shape[2], hint.shape[3]))
        else:
            guided, hint = _vector(guided), _vector(hint)
        return fitnet(self.regressor(guided), hint)


def _vector(tensor: Tensor) -> Tensor:
    return tensor.mean((2, 3)) if tensor.dim() == 4 else tensor
