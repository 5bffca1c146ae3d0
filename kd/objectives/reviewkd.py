"""Knowledge review: compares each teacher stage with a fusion of all later student stages.

    A_n = r_n(F_s,n),   A_l = r_l(F_s,l)·z_1 + up(A_{l+1})·z_2,   z = sigmoid(1×1 conv of both)
    L = Σ_l HCL(e_l(A_l), F_t,l)
    HCL(a, b) = Σ_k w_k·⟨(pool_k(a) − pool_k(b))²⟩ / Σ_k w_k

r is a 1×1 and e a 3×3 convolution, each with batch norm; `up` is nearest-neighbour interpolation.
HCL is the hierarchical context loss. Its levels k are the map itself and its average pools to 4×4,
2×2 and 1×1, as far as these are smaller than the map, with weights w = 1, ½, ¼, ⅛ in this order.

Paper: Chen, Liu, Zhao & Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021,
https://arxiv.org/abs/2104.09044.

The paper does not state the width of the fusion. It is that of the authors' code
(https://github.com/dvlab-research/ReviewKD): the channels of the deepest student tensor, but at
most 512. Their code lists sizes and channels by hand for every net; here they come from the shapes
of the probed batch. Where the two nets' resolutions differ, their code resizes after the fusion;
here every stage is brought to the teacher's size first.

Their code compares maps before the last ReLU of a stage; the taps `stage…` here are behind it. Maps
before it are at other taps of the teacher, such as `+teacher.taps.pre3=stage3.2.relu:in`, which
`method.taps=[stage1:pre1,stage2:pre2,stage3:pre3]` pairs with the student's.

Reduction: ⟨·⟩ is the mean over the batch, channels and positions; sum over taps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.maps import as_map, resample
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

LEVELS = (4, 2, 1)  # sizes of the average pools
MAX_WIDTH = 512  # channels of the fusion, as in the authors' code


def reviewkd(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Hierarchical context loss, summed over stages.

    Args:
        student_maps: e_l(A_l), the fused maps that `KnowledgeReview` makes, each [B, C, H, W], of
            the teacher's shape.
        teacher_maps: each [B, C, H, W].

    Returns:
        Scalar ≥ 0: weighted mean over the levels of the mean squared errors, sum over stages.

    Example:
        An error of 1 everywhere costs 1 at every level; with alternating signs it vanishes in the
        pools.

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.zeros(1, 1, 2, 2)
        >>> losses.reviewkd([teacher + 1], [teacher]).item()
        1.0
        >>> signs = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
        >>> round(losses.reviewkd([teacher + signs], [teacher]).item(), 4)  # 1 / (1 + ½)
        0.6667

    Reference:
        Chen et al. 2021, https://arxiv.org/abs/2104.09044
    """
    terms = [hierarchical_distance(*maps) for maps in zip(student_maps, teacher_maps, strict=True)]
    return torch.stack(terms).sum()


def hierarchical_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """HCL of maps [B, C, H, W]: weighted mean of the squared errors of the maps and their pools."""
    student, teacher = student.float(), teacher.float()
    sizes = [level for level in LEVELS if level < min(teacher.shape[2:])]
    terms = [F.mse_loss(student, teacher)]
    for size in sizes:
        student_pool, teacher_pool = (F.adaptive_avg_pool2d(m, size) for m in (student, teacher))
        terms.append(F.mse_loss(student_pool, teacher_pool))
    weights = [0.5**power for power in range(len(terms))]
    weighted = [weight * term for weight, term in zip(weights, terms, strict=True)]
    return torch.stack(weighted).sum() / sum(weights)


def fuse(here: Tensor, later: Tensor, gate: nn.Module) -> Tensor:
    """Attention-based fusion of two maps [B, C, H, W].

    Args:
        here: maps of this stage.
        later: fused maps of the later stages, of the same shape.
        gate: module from the concatenation [B, 2C, H, W] to attention maps [B, 2, H, W] in (0, 1).
    """
    attention = gate(torch.cat([here, later], 1))
    return here * attention[:, :1] + later * attention[:, 1:]


class KnowledgeReview(Objective):
    """Knowledge review as a loss term, with trained fusion modules.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: canonical names of taps with maps [B, C, H, W] or vectors [B, D], in forward order.
        last_tap: one more tap behind them, as the pooled embedding in the authors' code, or None.

    Raises:
        ValueError: `taps` is empty.
    """

    family = "feature"
    tokens_as_maps = True

    def __init__(self, taps: Sequence[str], last_tap: str | None = None) -> None:
        super().__init__()
        last = () if last_tap is None else (last_tap,)
        self.pair((*taps, *last) if taps else ())
        self.reduce, self.gates, self.expand = (nn.ModuleDict() for _ in range(3))

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        width = min(MAX_WIDTH, student.taps[self.student_taps[-1]].shape[1])
        for tap in self.student_taps:
            student_shape, teacher_shape = (
                outputs.taps[tap].shape for outputs in (student, teacher)
            )
            if not {len(student_shape), len(teacher_shape)} <= {2, 4}:
                raise UserError(
                    f"reviewkd needs maps [B, C, H, W] or vectors [B, D] at tap {tap!r}; the "
                    f"student has {list(student_shape)}, the teacher {list(teacher_shape)}"
                )
            self.reduce[tap] = _conv_bn(student_shape[1], width, 1)
            self.expand[tap] = _conv_bn(width, teacher_shape[1], 3)
            # The last stage has nothing later to be fused with.
            if tap != self.student_taps[-1]:
                self.gates[tap] = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        expanded: list[Tensor] = []
        targets: list[Tensor] = []
        fused: Tensor | None = None
        for tap in reversed(self.student_taps):
            student_map, teacher_map = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            size = (teacher_map.shape[2], teacher_map.shape[3])
            here = self.reduce[tap](resample(student_map, size))
            if fused is not None:
                here = fuse(here, F.interpolate(fused, size, mode="nearest"), self.gates[tap])
            fused = here
            expanded.append(self.expand[tap](fused))
            targets.append(teacher_map)
        return reviewkd(expanded, targets)


def _conv_bn(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
