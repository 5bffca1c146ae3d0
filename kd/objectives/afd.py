"""Channels of the teacher's maps, matched the more the more an attention finds them important.

    L = Σ_l (1/B) Σ_b Σ_c ρ_l[b, c] · ‖F̂_s[b, c] − F̂_t[b, c]‖²₂

F̂[b, c] is a channel's map divided by its L2 norm over positions, and ρ_l [B, C] weights that sum to
1 over the channels: the softmax of a trained two-layer net on the teacher's averaged map.

Wang, Gao, Zhao, Li, Dou & Xu, "Pay Attention to Features, Transfer Learn Faster CNNs", 2020: the
distillation half of AFDS; its other half prunes channels. Knowledge-Distillation-Zoo calls the
paper's attention unstable and puts sigmoids divided by their sum in the softmax's place:
`variant: sigmoid`. It also averages over positions, on the last map alone, with weight 500; the
squared norm here sums, so that the weight does not depend on the resolution: 500 on its one map of
8×8 is 8 for one tap here. The attention is trained by the loss itself, in both, and so favours
channels that are easy to match.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import paired_maps, resample
from kd.types import Batch, Outputs

VARIANTS = ("paper", "sigmoid")


def attention_weights(scores: Tensor, variant: str = "paper") -> Tensor:
    """Turn scores [B, C] into weights that sum to 1 over the channels."""
    log_weights = F.logsigmoid(scores) if variant == "sigmoid" else scores
    return F.softmax(log_weights, dim=1)


def channel_distance(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared distance of the unit channels of maps [B, C, H, W]; mean over the batch."""
    ours = F.normalize(student.float().flatten(2), dim=2)
    theirs = F.normalize(teacher.float().flatten(2), dim=2)
    return (weights * (ours - theirs).square().sum(2)).sum(1).mean()


class AttentiveFeatures(Objective):
    """Sum over the taps of the attention-weighted distance of channels.

    The student's maps are resampled to the teacher's resolution; other channels go through a
    trained 1×1 convolution.

    Args:
        taps: taps with maps [B, C, H, W] in both nets.
        variant: `paper` or `sigmoid`.
    """

    family = "feature"

    def __init__(self, taps: Sequence[str], variant: str = "paper") -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: the two nets have no stage in common; name some")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        self.student_taps = self.teacher_taps = tuple(taps)
        self.variant = variant
        self.aligns = nn.ModuleDict()
        self.attentions = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        for tap in self.student_taps:
            ours, theirs = paired_maps("afd", student, teacher, tap, tap)
            narrow, wide = ours.shape[1], theirs.shape[1]
            self.aligns[tap] = (
                nn.Identity() if narrow == wide else nn.Conv2d(narrow, wide, 1, bias=False)
            )
            self.attentions[tap] = nn.Sequential(
                nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide)
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        distances = [
            self._distance(tap, student.taps[tap], teacher.taps[tap]) for tap in self.student_taps
        ]
        return torch.stack(distances).sum()

    def _distance(self, tap: str, student: Tensor, teacher: Tensor) -> Tensor:
        scores = self.attentions[tap](teacher.float().mean((2, 3))).float()
        ours = self.aligns[tap](resample(student, (teacher.shape[2], teacher.shape[3])))
        return channel_distance(ours, teacher, attention_weights(scores, self.variant))
