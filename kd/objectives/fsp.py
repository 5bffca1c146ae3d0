"""FSP: matches the flow of the solution procedure, the channel products of neighbouring stages.

    G_l[b] = F_l·F_{l+1}ᵀ / (H·W)   [C_l, C_{l+1}], every F flattened to [C, H·W]
    L = Σ_l ⟨(G_l of the student − G_l of the teacher)²⟩ over the batch and both channels

Paper: Yim, Joo, Bae & Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning", CVPR 2017,
https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html.

Where the two maps of a pair differ in size, they are max-pooled to the smaller one; RepDistiller
pools by average. G has no positions, so student and teacher may differ in resolution. The paper
pairs the first and the last map of each part of the net, which are the ends of two consecutive
stages, and sums the squares with a free weight per pair; the weights of RepDistiller and others
belong to the mean over entries, used here. The paper requires equal channels; with
`variant="project"` a trained 1×1 convolution brings student maps with other channels to the
teacher's. The paper trains this term first and the labels after it.

Reduction: mean over the batch and both channels, sum over pairs of taps.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.maps import IMAGES, check_maps
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("paper", "project")


def fsp(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Squared difference of FSP matrices of neighbouring taps.

    Args:
        student_maps: maps [B, C_l, H_l, W_l] of at least two taps, early ones first.
        teacher_maps: the teacher's maps, with the same channels; resolutions may differ.

    Returns:
        Scalar ≥ 0: mean over the batch and both channels, sum over pairs of taps.

    Raises:
        ValueError: fewer than two taps.

    Example:
        FSP matrices are averages over positions, so the resolution plays no part:

        >>> import torch
        >>> from kd import losses
        >>> student = [torch.ones(1, 2, 4, 4), torch.ones(1, 3, 2, 2)]
        >>> teacher = [torch.ones(1, 2, 8, 8), torch.ones(1, 3, 4, 4)]
        >>> losses.fsp(student, teacher)
        tensor(0.)

    Reference:
        Yim et al. 2017,
        https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html
    """
    if len(student_maps) < 2:
        raise ValueError(f"fsp compares neighbouring taps and needs two, got {len(student_maps)}")
    distances = [
        F.mse_loss(flow(*student_pair), flow(*teacher_pair))
        for student_pair, teacher_pair in zip(
            pairwise(student_maps), pairwise(teacher_maps), strict=True
        )
    ]
    return torch.stack(distances).sum()


def flow(first: Tensor, second: Tensor) -> Tensor:
    """FSP matrix [B, C, C′] of two maps [B, C, H, W] and [B, C′, H′, W′], mean over positions."""
    size = [min(sides) for sides in zip(first.shape[2:], second.shape[2:], strict=True)]
    left, right = (F.adaptive_max_pool2d(upcast(m), size).flatten(2) for m in (first, second))
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(1, 2) / left.shape[2]


class FSP(Objective):
    """FSP as a loss term.

    Args:
        taps: canonical names of at least two taps with maps [B, C, H, W] in both nets, early ones
            first; every two neighbours are a pair.
        variant: "paper", which requires equal channels, or "project".

    Raises:
        ValueError: fewer than two taps, or there is no such variant.
    """

    tasks = IMAGES
    family = "feature"
    tokens_as_maps = True

    def __init__(self, taps: Sequence[str], variant: str = "paper") -> None:
        super().__init__()
        if len(taps) < 2:
            raise ValueError(f"taps must name at least two stages of both nets, got {list(taps)!r}")
        check_choice("variant", variant, VARIANTS)
        self.pair(taps)
        self.variant = variant
        self.projectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("fsp", self.student_taps, student, teacher)
        self.projectors = nn.ModuleDict()
        for tap in self.student_taps:
            student_shape, teacher_shape = (
                outputs.taps[tap].shape for outputs in (student, teacher)
            )
            same = student_shape[1] == teacher_shape[1]
            if not same and self.variant == "paper":
                raise UserError(
                    f"fsp needs equal channels at tap {tap!r}; the student has "
                    f"{list(student_shape)}, the teacher {list(teacher_shape)}; "
                    "method.variant=project brings the student's to the teacher's"
                )
            conv = nn.Conv2d(student_shape[1], teacher_shape[1], 1, bias=False)
            self.projectors[tap] = nn.Identity() if same else conv

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_maps = [project(student.taps[tap]) for tap, project in self.projectors.items()]
        return fsp(student_maps, [teacher.taps[tap] for tap in self.student_taps])
