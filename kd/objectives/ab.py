"""Activation boundaries: matches which neurons fire, by a hinge on the side of zero.

    L = Σ_l 2^(l−n) · (1/B) Σ_b Σ_chw max(0, m − a·r(F_s))²,   a = +1 where F_t > 0, else −1

r is a trained 1×1 convolution with batch norm.

Paper: Heo, Lee, Yun & Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed by
Hidden Neurons", AAAI 2019, https://arxiv.org/abs/1811.03233.

The paper compares responses before the ReLU, and most stage taps of the models here are behind it.
For the teacher this makes no difference: only the sign F_t > 0 enters, which a ReLU preserves. The
student's r(F_s) has both signs in either case, but from a rectified F_s it cannot be computed how
far a silent neuron is from firing. In nets with residual blocks the tap before the ReLU is
`stage3.2.relu:in` and the like; add it with `+student.taps.pre3=…` and name it in `taps`.

The paper trains this term first and the labels after it. In RepDistiller the weight of the second
part has no effect, since the term is 0 there.

Reduction: sum over channels and positions, mean over the batch; of n taps the last has weight 1,
the one before it 1/2, and so on.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.maps import as_map, as_sequence, connectors, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def ab(
    student_maps: Tensor | Sequence[Tensor],
    teacher_maps: Tensor | Sequence[Tensor],
    margin: float = 1.0,
) -> Tensor:
    """Squared hinge between student responses and the teacher's activation boundaries.

    Args:
        student_maps: responses [B, C, H, W] of one tap or of several, early taps first, with the
            channels and positions of the teacher's.
        teacher_maps: the teacher's maps [B, C, H, W], before or after the ReLU.
        margin: m > 0, distance from zero up to which a response on the right side is pushed.

    Returns:
        Scalar ≥ 0: sum over channels and positions, mean over the batch, weighted sum over taps.

    Example:
        Two responses on the wrong side, each at distance 1 + 1 from the margin:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        >>> losses.ab(torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1), teacher, margin=1.0)
        tensor(8.)

    Reference:
        Heo et al. 2019, https://arxiv.org/abs/1811.03233
    """
    taps = zip(as_sequence(student_maps), as_sequence(teacher_maps), strict=True)
    return depth_weighted_sum([boundary_distance(*maps, margin) for maps in taps])


def depth_weighted_sum(terms: Sequence[Tensor]) -> Tensor:
    """Weighted sum Σ 2^(l−n)·term_l of n scalars: the last has weight 1, the one before it 1/2."""
    return torch.stack([t * 2.0 ** (i + 1 - len(terms)) for i, t in enumerate(terms)]).sum()


def boundary_distance(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Squared hinge of responses [B, …] on the teacher's side of zero; sum / B."""
    side = torch.where(teacher > 0, 1.0, -1.0)
    return F.relu(margin - side * upcast(student)).square().sum() / len(student)


class ActivationBoundary(Objective):
    """Activation boundaries as a loss term, with a trained connector for every tap.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: canonical names of taps with maps [B, C, H, W] or vectors [B, D], early ones first.
        margin: m > 0, distance from zero up to which a response on the right side is pushed.

    Raises:
        ValueError: `taps` is empty, or `margin` is out of range.
    """

    family = "feature"
    refuses_tokens = "it compares which neurons fire, and transformer blocks do not end in a ReLU"

    def __init__(self, taps: Sequence[str], margin: float = 1.0) -> None:
        super().__init__()
        self.pair(taps)
        if margin <= 0:
            raise ValueError(f"margin must be > 0, got {margin!r}")
        self.margin = margin
        self.connectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self.connectors = connectors("ab", self.student_taps, student, teacher)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_maps, teacher_maps = [], []
        for tap, connector in self.connectors.items():
            student_map, teacher_map = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            size = (teacher_map.shape[2], teacher_map.shape[3])
            student_maps.append(connector(resample(student_map, size)))
            teacher_maps.append(teacher_map)
        return ab(student_maps, teacher_maps, self.margin)
