"""What each neuron selects: the channels of a map as a set of samples, matched in distribution.

    x = one channel of F, flattened to H·W positions and divided by its L2 norm
    k(x, y) = (xᵀy)²
    L = Σ_l (1/B) Σ_b [ ⟨k(t, t′)⟩ + ⟨k(s, s′)⟩ − 2·⟨k(s, t)⟩ ],   ⟨·⟩ over all pairs of channels

This is the squared maximum mean discrepancy, biased form: pairs of a channel with itself count.
Sets of different sizes compare, so no adapter is needed for other channels. On maps of one position
every channel that fires is the same sample, and the term says nothing.

Huang & Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017, with
its polynomial kernel (d = 2, c = 0), the best of its three. The paper weighs the term by λ/2, most
code by λ; the term here is the discrepancy itself. Public code differs in keeping ⟨k(t, t′)⟩, which
has no gradient; it is kept, so that 0 means agreement. RepDistiller spreads out all products
[B, C, C, H·W]; one batched product of matrices gives the same numbers.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import check_maps, resample
from kd.types import Batch, Outputs


def selectivity(maps: Tensor) -> Tensor:
    """Unit-length channels [B, C, H·W] of maps [B, C, H, W]; channels of zeros stay zero."""
    channels = maps.float().flatten(2)
    if channels.shape[2] == 1:
        # All that length 1 leaves of it. A norm would say the same, but for the few values below
        # its floor, whose gradient of 1e6 ends a training.
        return channels.sign()
    # A channel that hardly fires has a steep norm; the floor bounds its gradient.
    return F.normalize(channels, dim=2, eps=1e-6)


def squared_discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    """MMD² of samples [B, C_s, N] and [B, C_t, N] under (xᵀy)²; mean over the batch."""
    both = torch.cat([student, teacher], 1)
    counts = (student.shape[1], -teacher.shape[1])
    share = torch.cat([both.new_full((abs(count),), 1 / count) for count in counts])
    with torch.autocast(both.device.type, enabled=False):
        if both.shape[1] <= both.shape[2]:
            kernel = (both @ both.transpose(1, 2)).square()
            return (kernel @ share @ share).mean()
        # (xᵀy)² is the product of xxᵀ and yyᵀ, so this is the distance of two means [N, N].
        return ((share[:, None] * both).transpose(1, 2) @ both).square().sum((1, 2)).mean()


class NeuronSelectivity(Objective):
    """Sum over the taps of the squared discrepancy between the nets' normalised channels.

    Maps of another resolution are resampled to the teacher's.

    Args:
        taps: taps with maps [B, C, H, W] in both nets.
    """

    family = "feature"

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: the two nets have no stage in common; name some")
        self.student_taps = self.teacher_taps = tuple(taps)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("nst", self.student_taps, student, teacher)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        distances = [
            self._distance(student.taps[tap], teacher.taps[tap]) for tap in self.student_taps
        ]
        return torch.stack(distances).sum()

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        student = resample(student, (teacher.shape[2], teacher.shape[3]))
        return squared_discrepancy(selectivity(student), selectivity(teacher))
