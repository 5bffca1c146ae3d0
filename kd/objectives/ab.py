"""Which neurons fire: the student's are held on the teacher's side of zero, by a margin.

    L = Σ_l 2^(l−n) · (1/B) Σ_b Σ_chw max(0, m − a·r(F_s))²,   a = +1 where F_t > 0, else −1

The squares are summed over channels and positions; of n taps the last weighs 1, the one before it
½, and so on. r is a trained 1×1 convolution with batch norm, whatever the channels.

Heo, Lee, Yun & Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden
Neurons", 2019. The paper speaks of responses before the ReLU, and most stage taps here lie behind
it. For the teacher that is the same: only F_t > 0 is asked, which a ReLU leaves as it is. The
student's r(F_s) has both signs in either case, but from a rectified F_s r cannot see how far a
silent neuron is from firing. Before the ReLU lies, in nets with residual blocks, the tap
`stage3.2.relu:in` and its like; name it with `+student.taps.pre3=…` and `taps`.
The paper trains this term first and the labels after it; RepDistiller's weight for the second part
has no effect, since the term is 0 there.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import as_map, connectors, resample
from kd.types import Batch, Outputs


def later_weighs_more(terms: Sequence[Tensor]) -> Tensor:
    """Σ 2^(l−n)·term_l: the last of n scalars counts whole, each before it half of the next."""
    return torch.stack([t * 2.0 ** (i + 1 - len(terms)) for i, t in enumerate(terms)]).sum()


def boundary_distance(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Squared hinge of responses [B, …] on the teacher's side of zero; sum / B."""
    side = torch.where(teacher > 0, 1.0, -1.0)
    return F.relu(margin - side * student.float()).square().sum() / len(student)


class ActivationBoundary(Objective):
    """Squared hinge between the connected student responses and the teacher's activations.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: taps of both nets, early ones first.
        margin: m > 0, how far beyond zero a response is still pushed.
    """

    family = "feature"

    def __init__(self, taps: Sequence[str], margin: float = 1.0) -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: the two nets have no stage in common; name some")
        if margin <= 0:
            raise ValueError(f"margin must be > 0, got {margin!r}")
        self.student_taps = self.teacher_taps = tuple(taps)
        self.margin = margin
        self.connectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self.connectors = connectors("ab", self.student_taps, student, teacher)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        terms = []
        for tap, connector in self.connectors.items():
            ours, theirs = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            ours = connector(resample(ours, (theirs.shape[2], theirs.shape[3])))
            terms.append(boundary_distance(ours, theirs, self.margin))
        return later_weighs_more(terms)
