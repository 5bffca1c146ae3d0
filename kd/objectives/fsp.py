"""The flow of solution: how each stage's channels go with those of the next.

    G_l[b] = F_l·F_{l+1}ᵀ / (H·W)   [C_l, C_{l+1}], every F flattened to [C, H·W]
    L = Σ_l ⟨(G_l of the student − G_l of the teacher)²⟩ over the batch and both channels

Where the two maps of a pair differ in size, they are max-pooled to the smaller one. G has no
positions left, so student and teacher may differ in theirs.

Yim, Joo, Bae & Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization
and Transfer Learning", 2017. The paper pairs the first and the last map of each part of the net,
which are the ends of two consecutive stages, and sums the squares under a free weight a pair; the
mean over the entries is that weight's choice here, and that of RepDistiller and others, with whose
weights it goes. RepDistiller pools by average. The paper asks for equal channels; with
`variant: project` a trained 1×1 convolution brings student maps of other channels to the teacher's.
The paper trains this term first and the labels after it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.maps import check_maps
from kd.types import Batch, Outputs

VARIANTS = ("paper", "project")


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Products [B, C, C′] of two maps [B, C, H, W] and [B, C′, H′, W′], mean over positions."""
    size = [min(sides) for sides in zip(first.shape[2:], second.shape[2:], strict=True)]
    left, right = (F.adaptive_max_pool2d(maps.float(), size).flatten(2) for maps in (first, second))
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(1, 2) / left.shape[2]


class FSP(Objective):
    """Squared difference of the nets' flows, mean over the entries, summed over pairs of taps.

    Args:
        taps: at least two taps with maps [B, C, H, W] in both nets, early ones first; every two
            neighbours are a pair.
        variant: `paper`, which refuses student channels other than the teacher's, or `project`.
    """

    family = "feature"

    def __init__(self, taps: Sequence[str], variant: str = "paper") -> None:
        super().__init__()
        if len(taps) < 2:
            raise ValueError(f"taps must name at least two stages of both nets, got {list(taps)!r}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        self.student_taps = self.teacher_taps = tuple(taps)
        self.variant = variant
        self.projectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("fsp", self.student_taps, student, teacher)
        self.projectors = nn.ModuleDict()
        for tap in self.student_taps:
            ours, theirs = (outputs.taps[tap].shape for outputs in (student, teacher))
            same = ours[1] == theirs[1]
            if not same and self.variant == "paper":
                raise UserError(
                    f"fsp needs equal channels at tap {tap!r}; the student has {list(ours)}, the "
                    f"teacher {list(theirs)}; method.variant=project brings the student's to the "
                    "teacher's"
                )
            conv = nn.Conv2d(ours[1], theirs[1], 1, bias=False)
            self.projectors[tap] = nn.Identity() if same else conv

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours = [project(student.taps[tap]) for tap, project in self.projectors.items()]
        theirs = [teacher.taps[tap] for tap in self.teacher_taps]
        distances = [
            F.mse_loss(flow(*mine), flow(*goal))
            for mine, goal in zip(pairwise(ours), pairwise(theirs), strict=True)
        ]
        return torch.stack(distances).sum()
