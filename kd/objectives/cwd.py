"""Where each channel fires: every channel of a map, softened over its positions, is matched.

    L = (T² / (B·C)) Σ_b Σ_c KL(p_t ‖ p_s),    p[b, c, :] = softmax over H·W of F[b, c, :] / T

The divergence is summed over positions, and averaged over channels and the batch.

Shu, Liu, Gao, Yan & Shen, "Channel-wise Knowledge Distillation for Dense Prediction", 2021. The
paper applies it to maps of scores as well as to features; where the channels differ it puts a 1×1
convolution on the student. Public code agrees on the formula and differs in T: 4 in the paper, 1 in
most detection configs.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting, check_temperature
from kd.objectives.maps import paired_maps, resample
from kd.types import Batch, Outputs


def channel_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL of the channels' spatial softmax, of maps [B, C, H, W]; mean over B·C."""
    log_student = F.log_softmax(student.float().flatten(2) / temperature, dim=2)
    log_teacher = F.log_softmax(teacher.float().flatten(2) / temperature, dim=2)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(2)
    return divergence.mean() * temperature**2


class ChannelWise(Objective):
    """Divergence of the teacher's channels from the student's, each a distribution over positions.

    The student's map is resampled to the teacher's resolution; other channels go through a trained
    1×1 convolution.

    Args:
        tap: a tap with maps [B, C, H, W] in both nets.
        temperature: T > 0, for both nets.
    """

    family = "feature"

    def __init__(self, tap: str = "stage3", temperature: float = 4.0) -> None:
        super().__init__()
        self.tap = tap
        self.student_taps = self.teacher_taps = (tap,)
        self.temperature = check_temperature(temperature)
        self.align: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = paired_maps("cwd", student, teacher, self.tap, self.tap)
        if theirs.shape[2] * theirs.shape[3] == 1:
            raise UserError(
                f"cwd compares positions, and teacher tap {self.tap!r} has only one: "
                f"{list(theirs.shape)}; name an earlier stage"
            )
        if ours.shape[1] != theirs.shape[1]:
            self.align = nn.Conv2d(ours.shape[1], theirs.shape[1], 1, bias=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = student.taps[self.tap], teacher.taps[self.tap]
        ours = self.align(resample(ours, (theirs.shape[2], theirs.shape[3])))
        return channel_divergence(ours, theirs, self.temperature)
