"""How the channels of one image go together: L = (1/(B·C)) Σ_b ‖G_s[b] − G_t[b]‖²_F.

    G[b] = F[b]·F[b]ᵀ [C, C] with F[b] flattened to [C, H·W], every row divided by its L2 norm

C is the teacher's number of channels; the student's map goes through a trained 1×1 convolution with
batch norm first. The Gram matrix has no positions left, so maps of any two resolutions compare.

Liu, Huang, Lin, Xie, Wang, Chang & Liang, "Exploring Inter-Channel Correlation for
Diversity-Preserved Knowledge Distillation", 2021 (ICKD-C). The rows' normalisation and the division
by B·C are those of the authors' code, with which the published weights go. torchdistill divides by
B twice, which makes the term vanish in large batches.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import paired_maps
from kd.types import Batch, Outputs


def channel_correlation(maps: Tensor) -> Tensor:
    """Products of all channels [B, C, C] of maps [B, C, H, W], rows of unit length or zero."""
    flat = maps.float().flatten(2)
    with torch.autocast(flat.device.type, enabled=False):
        return F.normalize(flat @ flat.transpose(1, 2), dim=2)


def correlation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the correlations of two maps with equal channels; sum / (B·C)."""
    difference = channel_correlation(student) - channel_correlation(teacher)
    return difference.square().sum(2).mean()


class InterChannelCorrelation(Objective):
    """Squared distance between the nets' normalised channel Gram matrices.

    Args:
        tap: a tap with maps [B, C, H, W] in both nets.
    """

    family = "feature"

    def __init__(self, tap: str = "stage3") -> None:
        super().__init__()
        self.tap = tap
        self.student_taps = self.teacher_taps = (tap,)
        self.projector: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = paired_maps("ickd", student, teacher, self.tap, self.tap)
        width = theirs.shape[1]
        self.projector = nn.Sequential(
            nn.Conv2d(ours.shape[1], width, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours = self.projector(student.taps[self.tap])
        return correlation_distance(ours, teacher.taps[self.tap])
