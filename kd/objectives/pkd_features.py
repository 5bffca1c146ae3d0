"""Pearson distillation: matches the pattern of every channel of feature maps, not its scale.

    L = Σ_l ½ ⟨(F̂_s − F̂_t)²⟩ = Σ_l (1 − r̄_l),    F̂ = (F − μ_c) / σ_c

with mean μ and standard deviation σ of every channel over the batch and all positions, r̄ the mean
over channels of the correlation of the two nets' maps at level l.

Paper: Cao, Zhang, Gao, Cheng, Cheng & Zhang, "PKD: General Distillation Framework for Object
Detectors via Pearson Correlation Coefficient", NeurIPS 2022, https://arxiv.org/abs/2207.02039.
(`pkd` is another paper, about BERT.)

The paper distils the levels of a feature pyramid; in image classification the levels are the
stages of both nets. A student with other channels gets a 1×1 convolution; its maps are resampled to
the teacher's resolution. A constant channel has F̂ = 0. σ is the root of the mean square, so that
both forms of the loss are equal; the code in MMRazor divides by one less than the number of values.

Reduction: mean over batch, channels and positions, sum over levels.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.maps import IMAGES_AND_BOXES, as_sequence, check_maps, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

_SMALLEST = 1e-6  # added to a standard deviation, as in the authors' code


def pkd_features(
    student_maps: Tensor | Sequence[Tensor], teacher_maps: Tensor | Sequence[Tensor]
) -> Tensor:
    """Half the squared distance of standardised maps, summed over levels.

    Args:
        student_maps: [B, C, H, W], or one for each level.
        teacher_maps: the same.

    Returns:
        Scalar in [0, 2] for each level: mean over batch, channels and positions, sum over levels.

    Example:
        Scale and shift of a channel change nothing:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.arange(8.0).view(1, 2, 2, 2)
        >>> losses.pkd_features(3 * teacher + 1, teacher).item() < 1e-6
        True

    Reference:
        Cao et al. 2022, https://arxiv.org/abs/2207.02039
    """
    pairs = zip(as_sequence(student_maps), as_sequence(teacher_maps), strict=True)
    terms = [
        (_standardised(own) - _standardised(other)).square().mean() / 2 for own, other in pairs
    ]
    return sum(terms[1:], terms[0])


def _standardised(maps: Tensor) -> Tensor:
    centred = upcast(maps) - upcast(maps).mean((0, 2, 3), keepdim=True)
    # The gradient of sqrt is infinite at 0, the variance of a constant channel.
    variance = centred.square().mean((0, 2, 3), keepdim=True).clamp_min(_SMALLEST**2)
    return centred / (variance.sqrt() + _SMALLEST)


class PearsonFeatures(Objective):
    """Pearson distillation as a loss term; see `pkd_features`.

    Args:
        taps: canonical names of maps [B, C, H, W], or pairs `student:teacher`.

    Raises:
        ValueError: there are no taps.
    """

    family = "feature"
    tokens_as_maps = True
    tasks = IMAGES_AND_BOXES

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self.pair(taps)
        self.align = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("pkd_features", self.student_taps, student, teacher)
        for tap in self.student_taps:
            narrow, wide = student.taps[tap].shape[1], teacher.taps[tap].shape[1]
            same = narrow == wide
            self.align[tap] = nn.Identity() if same else nn.Conv2d(narrow, wide, 1, bias=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        theirs = [teacher.taps[tap] for tap in self.student_taps]
        ours = [
            self.align[tap](resample(student.taps[tap], (maps.shape[2], maps.shape[3])))
            for tap, maps in zip(self.student_taps, theirs, strict=True)
        ]
        return pkd_features(ours, theirs)
