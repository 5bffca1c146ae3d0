"""Overhaul of feature distillation: partial squared distance of features before the ReLU.

    L = Σ_l 2^(l−n) · (1/B) Σ_b Σ_chw d(r(F_s), max(F_t, m_c)),
    d(s, t) = 0 where s ≤ t ≤ 0, else (s − t)²

n is the number of taps: the last one has weight 1, the one before it ½, and so on. r is a trained
1×1 convolution with batch norm. The margin m_c ≤ 0 is the mean of the negative responses of the
teacher's channel c.

Paper: Heo, Kim, Yun, Park, Kwak & Choi, "A Comprehensive Overhaul of Feature Distillation",
ICCV 2019, https://arxiv.org/abs/1904.01866.

The paper allows the margin to be measured during training or computed from the batch norm in front
of the ReLU, as the authors' code does. Here it is an exponential average over the batches seen,
because an objective receives tensors only, and behind a residual sum that batch norm does not
describe the distribution. Knowledge-Distillation-Zoo takes the current batch alone. The authors'
code runs the teacher in training mode on purpose; here the teacher is always in evaluation mode.

Taps behind the ReLU, as most stage taps are, have no negative responses: m_c is 0, and where the
teacher's response is 0 the term only penalises positive responses of the student. In nets with
residual blocks the features before the ReLU are at taps such as `stage3.2.relu:in`; add one with
`+teacher.taps.pre3=…`, `+student.taps.pre3=…` and `method.taps=[pre3]`.

Reduction: sum over channels and positions, mean over the batch, weighted sum over taps. The
authors' code divides by a further 1000, which belongs to the weight here.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.objectives.ab import depth_weighted_sum
from kd.objectives.base import Objective
from kd.objectives.maps import as_map, connectors, resample
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

DECAY = 0.99  # of the margins' running sums per batch: an average over about 100 batches


def ofd(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], margins: Sequence[Tensor]
) -> Tensor:
    """Partial squared distance of responses before the ReLU.

    Args:
        student_maps: each [B, C, H, W], already connected to the teacher's shape; in forward order.
        teacher_maps: each [B, C, H, W].
        margins: m_c ≤ 0 of every tap, broadcastable to its map, such as [C, 1, 1]. The teacher's
            responses below the margin are raised to it.

    Returns:
        Scalar ≥ 0: sum over channels and positions, mean over the batch, sum over taps weighted by
        1 for the last, ½ for the one before it, and so on.

    Example:
        The teacher's −4 is raised to the margin −1. A student at −2 is below it and costs nothing;
        at +1 it costs (1 + 1)².

        >>> import torch
        >>> from kd import losses
        >>> teacher, margin = torch.full((1, 1, 1, 1), -4.0), torch.tensor([[[-1.0]]])
        >>> losses.ofd([torch.full((1, 1, 1, 1), -2.0)], [teacher], [margin]).item()
        0.0
        >>> losses.ofd([torch.full((1, 1, 1, 1), 1.0)], [teacher], [margin]).item()
        4.0

    Reference:
        Heo et al. 2019, https://arxiv.org/abs/1904.01866
    """
    taps = zip(student_maps, teacher_maps, margins, strict=True)
    return depth_weighted_sum(
        [partial_distance(s, torch.maximum(t.float(), m)) for s, t, m in taps]
    )


def partial_distance(student: Tensor, goal: Tensor) -> Tensor:
    """Squared distance of responses [B, …], 0 where student ≤ goal ≤ 0; sum divided by B."""
    student, goal = student.float(), goal.float()
    inactive = (student <= goal) & (goal <= 0)  # the ReLU maps both to 0
    return (student - goal).masked_fill(inactive, 0.0).square().sum() / len(student)


def negative_responses(maps: Tensor) -> Tensor:
    """Sum and number [2, C] of the values below zero in each channel of maps [B, C, H, W]."""
    maps = maps.float()
    return torch.stack([maps.clamp(max=0).sum((0, 2, 3)), (maps < 0).float().sum((0, 2, 3))])


class Overhaul(Objective):
    """Overhaul of feature distillation as a loss term, with connectors and running margins.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: canonical names of taps with maps [B, C, H, W] or vectors [B, D], in forward order.

    Raises:
        ValueError: `taps` is empty.
    """

    family = "feature"
    refuses_tokens = (
        "it compares features before a ReLU, and transformer blocks have none at their end"
    )
    one_device = "its margins are running averages over all images, of which a device has a part"

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self.pair(taps)
        self.connectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self.connectors = connectors("ofd", self.student_taps, student, teacher)
        for tap in self.student_taps:
            # [2, C]: decayed sum and number of the negative responses. Buffers, so that a resumed
            # run continues with the same margins.
            self.register_buffer(f"negative_{tap}", torch.zeros(2, teacher.taps[tap].shape[1]))

    def margin(self, tap: str, teacher: Tensor) -> Tensor:
        """Mean negative response [C, 1, 1] per channel so far, these maps included in training."""
        seen: Tensor = getattr(self, f"negative_{tap}")
        if self.training:
            seen.mul_(DECAY).add_(negative_responses(teacher.detach()))
        total, count = seen
        # A channel without negative responses has total 0 and so the margin 0.
        return (total / count.clamp_min(1e-6))[:, None, None]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        connected, targets, margins = [], [], []
        for tap, connector in self.connectors.items():
            student_map, teacher_map = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            size = (teacher_map.shape[2], teacher_map.shape[3])
            connected.append(connector(resample(student_map, size)))
            targets.append(teacher_map)
            margins.append(self.margin(tap, teacher_map))
        return ofd(connected, targets, margins)
