"""Inter-channel correlation: matches the Gram matrix of the channels of every image.

    L = (1/(B·C)) Σ_b ‖G_s[b] − G_t[b]‖²_F
    G[b] = F[b]·F[b]ᵀ [C, C], F[b] flattened to [C, H·W], every row of G divided by its L2 norm

C is the teacher's number of channels; the student's map goes through a trained 1×1 convolution with
batch norm first. G has no positions, so maps of any two resolutions compare.

Paper: Liu, Huang, Lin, Xie, Wang, Chang & Liang, "Exploring Inter-Channel Correlation for
Diversity-Preserved Knowledge Distillation", ICCV 2021, https://arxiv.org/abs/2202.03680 (ICKD-C).

The normalisation of the rows and the division by B·C are those of the authors' code, to which the
published weights belong. torchdistill divides by B twice, so that the term vanishes in large
batches.

Reduction: sum over one channel, mean over the other and the batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.maps import IMAGES, paired_maps
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def ickd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared distance between normalised channel Gram matrices.

    Args:
        student_map: [B, C, H, W], already projected to the teacher's channels.
        teacher_map: [B, C, H', W'].

    Returns:
        Scalar in [0, 4]: sum over one channel, mean over the other and the batch.

    Example:
        A permutation of the positions changes nothing:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.arange(8.0).view(1, 2, 2, 2)
        >>> losses.ickd(teacher.flip(2), teacher).item() < 1e-9
        True

    Reference:
        Liu et al. 2021, https://arxiv.org/abs/2202.03680
    """
    difference = channel_correlation(student_map) - channel_correlation(teacher_map)
    return difference.square().sum(2).mean()


def channel_correlation(maps: Tensor) -> Tensor:
    """Products of all channels [B, C, C] of maps [B, C, H, W], rows of unit length or zero."""
    flat = upcast(maps).flatten(2)
    with torch.autocast(flat.device.type, enabled=False):
        return F.normalize(flat @ flat.transpose(1, 2), dim=2)


class InterChannelCorrelation(Objective):
    """Inter-channel correlation as a loss term, with a trained projection of the student's map.

    Args:
        tap: canonical name of a tap with maps [B, C, H, W] in both nets.
    """

    tasks = IMAGES
    family = "feature"
    tokens_as_maps = True

    def __init__(self, tap: str = "stage3") -> None:
        super().__init__()
        self.pair((tap,))
        (self.tap,) = self.student_taps
        self.projector: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        student_map, teacher_map = paired_maps("ickd", student, teacher, self.tap, self.tap)
        width = teacher_map.shape[1]
        self.projector = nn.Sequential(
            nn.Conv2d(student_map.shape[1], width, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return ickd(self.projector(student.taps[self.tap]), teacher.taps[self.tap])
