"""Review: early stages of the teacher taught by all later ones of the student, fused.

    A_n = r_n(F_s,n),   A_l = r_l(F_s,l)·z_1 + up(A_{l+1})·z_2,   z = sigmoid(1×1 conv of both)
    L = Σ_l HCL(e_l(A_l), F_t,l)
    HCL(a, b) = Σ_k w_k·⟨(pool_k(a) − pool_k(b))²⟩ / Σ_k w_k

r is a 1×1 and e a 3×3 convolution, each with batch norm; `up` repeats pixels. The levels k are the
map itself and its average pools to 4×4, 2×2 and 1×1, as far as these are smaller than the map, with
w = 1, ½, ¼, ⅛ in turn; the mean is over the batch, channels and positions.

Chen, Liu, Zhao & Jia, "Distilling Knowledge via Knowledge Review", 2021. The width of the fusion,
which the paper leaves open, is as in the authors' code: that of the deepest student tensor, at most
512. Their code has sizes and channels typed by hand for every net, and so fails for MobileNetV2;
here they come from the probe. It resizes after the fusion, where student and teacher differ; here
every stage is brought to the teacher's size first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.maps import as_map, resample
from kd.types import Batch, Outputs

LEVELS = (4, 2, 1)
WIDEST = 512


def hierarchical_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Weighted mean of the mean squared errors of maps [B, C, H, W] and of their pools."""
    student, teacher = student.float(), teacher.float()
    sizes = [level for level in LEVELS if level < min(teacher.shape[2:])]
    terms = [F.mse_loss(student, teacher)]
    for size in sizes:
        ours, theirs = (F.adaptive_avg_pool2d(maps, size) for maps in (student, teacher))
        terms.append(F.mse_loss(ours, theirs))
    weights = [0.5**power for power in range(len(terms))]
    weighted = [weight * term for weight, term in zip(weights, terms, strict=True)]
    return torch.stack(weighted).sum() / sum(weights)


def fuse(here: Tensor, later: Tensor, gate: nn.Module) -> Tensor:
    """Mix two maps [B, C, H, W] by two attention maps in (0, 1), made from both."""
    attention = gate(torch.cat([here, later], 1))
    return here * attention[:, :1] + later * attention[:, 1:]


class KnowledgeReview(Objective):
    """Hierarchical distance of the student's fused stages to the teacher's, summed over the taps.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: taps of both nets, early ones first.
        last_tap: one more behind them, as the pooled embedding in the authors' code, or None.
    """

    family = "feature"

    def __init__(self, taps: Sequence[str], last_tap: str | None = None) -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: the two nets have no stage in common; name some")
        last = () if last_tap is None else (last_tap,)
        self.student_taps = self.teacher_taps = (*taps, *last)
        self.reduce, self.gates, self.expand = (nn.ModuleDict() for _ in range(3))

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        width = min(WIDEST, student.taps[self.student_taps[-1]].shape[1])
        for tap in self.student_taps:
            ours, theirs = (outputs.taps[tap].shape for outputs in (student, teacher))
            if not {len(ours), len(theirs)} <= {2, 4}:
                raise UserError(
                    f"reviewkd needs maps [B, C, H, W] or vectors [B, D] at tap {tap!r}; the "
                    f"student has {list(ours)}, the teacher {list(theirs)}"
                )
            self.reduce[tap] = _conv_bn(ours[1], width, 1)
            self.expand[tap] = _conv_bn(width, theirs[1], 3)
            if tap != self.student_taps[-1]:
                self.gates[tap] = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        terms: list[Tensor] = []
        fused: Tensor | None = None
        for tap in reversed(self.student_taps):
            ours, theirs = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            size = (theirs.shape[2], theirs.shape[3])
            here = self.reduce[tap](resample(ours, size))
            if fused is not None:
                here = fuse(here, F.interpolate(fused, size, mode="nearest"), self.gates[tap])
            fused = here
            terms.append(hierarchical_distance(self.expand[tap](fused), theirs))
        return torch.stack(terms).sum()


def _conv_bn(narrow: int, wide: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(narrow, wide, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(wide))
