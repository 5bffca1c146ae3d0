"""Attentive feature distillation: matches the channels of maps, weighted by a trained attention.

    L = Σ_l (1/B) Σ_b Σ_c ρ_l[b, c] · ‖F̂_s[b, c] − F̂_t[b, c]‖²₂

F̂[b, c] is a channel's map divided by its L2 norm over positions. ρ_l [B, C] are weights that sum to
1 over the channels: the softmax of a trained two-layer net on the teacher's averaged map.

Paper: Wang, Gao, Zhao, Li, Dou & Xu, "Pay Attention to Features, Transfer Learn Faster CNNs", ICLR
2020, https://openreview.net/forum?id=ryxyCeHtPB: the distillation half of AFDS, whose other half
prunes channels.

Knowledge-Distillation-Zoo calls the paper's attention unstable and replaces the softmax by sigmoids
divided by their sum: `variant="sigmoid"`. It also averages over positions, on the last map alone,
with weight 500. The squared norm here sums, so that the weight does not depend on the resolution:
500 for its one map of 8×8 is 8 for one tap here. In both, the attention is trained by the loss
itself and so favours channels that are easy to match.

Reduction: sum over positions, weighted mean over channels, mean over the batch, sum over taps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.maps import IMAGES, as_sequence, drop_single_positions, paired_maps, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("paper", "sigmoid")


def afd(
    student_maps: Tensor | Sequence[Tensor],
    teacher_maps: Tensor | Sequence[Tensor],
    scores: Tensor | Sequence[Tensor],
    variant: str = "paper",
) -> Tensor:
    """Attention-weighted squared distance between unit-length channels.

    Args:
        student_maps: maps [B, C, H, W] of one tap or of several, with the teacher's channels and
            positions.
        teacher_maps: the teacher's maps [B, C, H, W].
        scores: importance [B, C] of the channels, of any sign, for every tap.
        variant: weights are `softmax(scores)` for "paper", or `sigmoid(scores)` divided by its sum
            over the channels for "sigmoid".

    Returns:
        Scalar in [0, 4] per tap: sum over positions, weighted mean over channels, mean over the
        batch, sum over taps.

    Example:
        Of two channels the first is opposite and has all the weight:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.ones(1, 2, 2, 2)
        >>> student = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1) * teacher
        >>> losses.afd(student, teacher, scores=torch.tensor([[100.0, 0.0]]))
        tensor(4.)

    Reference:
        Wang et al. 2020, https://openreview.net/forum?id=ryxyCeHtPB
    """
    taps = zip(*map(as_sequence, (student_maps, teacher_maps, scores)), strict=True)
    terms = [
        channel_distance(student, teacher, attention_weights(upcast(score), variant))
        for student, teacher, score in taps
    ]
    return torch.stack(terms).sum()


def attention_weights(scores: Tensor, variant: str = "paper") -> Tensor:
    """Turn scores [B, C] into weights that sum to 1 over the channels."""
    check_choice("variant", variant, VARIANTS)
    log_weights = F.logsigmoid(scores) if variant == "sigmoid" else scores
    return F.softmax(log_weights, dim=1)


def channel_distance(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Weighted squared distance of the unit channels of maps [B, C, H, W]; mean over the batch."""
    student, teacher = (F.normalize(upcast(maps).flatten(2), dim=2) for maps in (student, teacher))
    return (weights * (student - teacher).square().sum(2)).sum(1).mean()


class AttentiveFeatures(Objective):
    """Attentive feature distillation as a loss term, with trained attention and projections.

    Student maps are resampled to the teacher's resolution; other channels go through a trained 1×1
    convolution.

    Args:
        taps: canonical names of taps with maps [B, C, H, W] in both nets.
        variant: "paper" or "sigmoid"; see `afd`.

    Raises:
        ValueError: `taps` is empty, or there is no such variant.
    """

    tasks = IMAGES
    family = "feature"
    tokens_as_maps = True

    def __init__(self, taps: Sequence[str], variant: str = "paper") -> None:
        super().__init__()
        self.pair(taps)
        check_choice("variant", variant, VARIANTS)
        self.variant = variant
        self.aligns = nn.ModuleDict()
        self.attentions = nn.ModuleDict()

    def select_taps(self, teacher: Outputs) -> None:
        drop_single_positions("afd", self, teacher)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        pairs = {t: paired_maps("afd", student, teacher, t, t) for t in self.student_taps}
        drop_single_positions("afd", self, teacher, student)
        for tap in self.student_taps:
            student_map, teacher_map = pairs[tap]
            narrow, wide = student_map.shape[1], teacher_map.shape[1]
            self.aligns[tap] = (
                nn.Identity() if narrow == wide else nn.Conv2d(narrow, wide, 1, bias=False)
            )
            self.attentions[tap] = nn.Sequential(
                nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide)
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_maps, teacher_maps, scores = [], [], []
        for tap in self.student_taps:
            teacher_map = teacher.taps[tap]
            size = (teacher_map.shape[2], teacher_map.shape[3])
            student_maps.append(self.aligns[tap](resample(student.taps[tap], size)))
            teacher_maps.append(teacher_map)
            scores.append(self.attentions[tap](teacher_map.float().mean((2, 3))))
        return afd(student_maps, teacher_maps, scores, self.variant)
