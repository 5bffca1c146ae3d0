"""Features before the ReLU: squared distance, except where both nets are silent anyway.

    L = Σ_l 2^(l−n) · (1/B) Σ_b Σ_chw d(r(F_s), max(F_t, m_c)),
    d(s, t) = 0 where s ≤ t ≤ 0, else (s − t)²

The distance is summed over channels and positions; of n taps the last weighs 1, the one before it
½, and so on. r is a trained 1×1 convolution with batch norm. The margin m_c ≤ 0 is the mean of
channel c's negative responses in the teacher.

Heo, Kim, Yun, Park, Kwak & Choi, "A Comprehensive Overhaul of Feature Distillation", 2019. The
paper allows m_c to be measured in training or worked out from the batch norm in front of the ReLU,
as the authors' code does. Here it is measured, over the batches seen, the last hundred or so
counting most: an objective sees tensors, and behind a residual sum that batch norm is not the
distribution. Knowledge-Distillation-Zoo takes one batch alone. The authors' code leaves the teacher
in training mode on purpose; here it is in evaluation mode, as for every method.

On taps behind the ReLU, as most stage taps are, there are no negative responses: m_c is 0, and
where the teacher is silent the student is only kept from firing, which is all such a tap says.
Before the ReLU lies, in nets with residual blocks, the tap `stage3.2.relu:in` and its like; name it
with `+teacher.taps.pre3=…` and `taps`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd.objectives.ab import later_weighs_more
from kd.objectives.base import Objective, Setting
from kd.objectives.maps import as_map, connectors, resample
from kd.types import Batch, Outputs

MEMORY = 0.99  # what a batch keeps of the weight of those before it


def partial_distance(student: Tensor, goal: Tensor) -> Tensor:
    """Squared distance of responses [B, …], none where student ≤ goal ≤ 0; sum / B."""
    student, goal = student.float(), goal.float()
    silent = (student <= goal) & (goal <= 0)
    return (student - goal).masked_fill(silent, 0.0).square().sum() / len(student)


def negative_responses(maps: Tensor) -> Tensor:
    """Sum and number [2, C] of the values below zero in each channel of [B, C, H, W]."""
    maps = maps.float()
    return torch.stack([maps.clamp(max=0).sum((0, 2, 3)), (maps < 0).float().sum((0, 2, 3))])


class Overhaul(Objective):
    """Partial squared distance between the connected student's and the teacher's responses.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: taps of both nets, early ones first.
    """

    family = "feature"
    one_device = "its margins are averages over all images so far, and each device sees a part"

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: the two nets have no stage in common; name some")
        self.student_taps = self.teacher_taps = tuple(taps)
        self.connectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self.connectors = connectors("ofd", self.student_taps, student, teacher)
        for tap in self.teacher_taps:
            self.register_buffer(f"negative_{tap}", torch.zeros(2, teacher.taps[tap].shape[1]))

    def margin(self, tap: str, teacher: Tensor) -> Tensor:
        """Mean negative response [C, 1, 1] of the teacher so far, these maps included."""
        seen: Tensor = getattr(self, f"negative_{tap}")
        if self.training:
            seen.mul_(MEMORY).add_(negative_responses(teacher))
        total, count = seen
        return (total / count.clamp_min(1e-6))[:, None, None]

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        terms = []
        for tap, connector in self.connectors.items():
            ours, theirs = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            ours = connector(resample(ours, (theirs.shape[2], theirs.shape[3])))
            goal = torch.maximum(theirs.float(), self.margin(tap, theirs))
            terms.append(partial_distance(ours, goal))
        return later_weighs_more(terms)
