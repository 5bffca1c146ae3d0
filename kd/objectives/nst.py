"""Neuron selectivity transfer: matches the distributions of channels by their MMD.

    x = one channel of a map F, flattened to H·W positions and divided by its L2 norm
    k(x, y) = (xᵀy)²
    L = Σ_l (1/B) Σ_b [ ⟨k(t, t′)⟩ + ⟨k(s, s′)⟩ − 2·⟨k(s, t)⟩ ],   ⟨·⟩ mean over pairs of channels

The bracket is the squared maximum mean discrepancy (MMD²) in its biased form: a channel is also
paired with itself. Sets of different sizes are comparable, so nets with different numbers of
channels need no adapter. On maps with a single position all non-zero channels are equal up to sign,
and the term carries no information.

Paper: Huang & Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
https://arxiv.org/abs/1707.01219, with its polynomial kernel (d = 2, c = 0).

Implementations differ in three points. The paper's objective is CE + (λ/2)·MMD²; the authors' code
(https://github.com/TuSimple/neuron-selectivity-transfer) and RepDistiller multiply MMD² by the full
weight, 50 in both. The authors' code drops ⟨k(t, t′)⟩, which has no gradient; it is included here,
so that 0 means equal distributions. RepDistiller averages the larger map down to the smaller one;
here the student's map is brought to the teacher's size. RepDistiller also materialises all products
[B, C, C, H·W]; one batched matrix product gives the same numbers.

Reduction: mean over pairs of channels and over the batch, sum over taps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.maps import IMAGES, check_maps, drop_single_positions, resample
from kd.objectives.pairs import full_precision
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def nst(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """MMD² between the channels of the two nets' maps, summed over taps.

    Args:
        student_maps: each [B, C_s, H_s, W_s]; resampled to the teacher's size.
        teacher_maps: each [B, C_t, H_t, W_t].

    Returns:
        Scalar ≥ 0: mean over pairs of channels and over the batch, sum over taps.

    Example:
        The scale and the order of channels do not matter:

        >>> import torch
        >>> from kd import losses
        >>> maps = torch.arange(24.0).reshape(1, 3, 2, 4) + 1
        >>> abs(losses.nst([2 * maps.flip(1)], [maps]).item()) < 1e-6
        True

    Reference:
        Huang & Wang 2017, https://arxiv.org/abs/1707.01219
    """
    terms = []
    for student, teacher in zip(student_maps, teacher_maps, strict=True):
        student = resample(student, (teacher.shape[2], teacher.shape[3]))
        terms.append(squared_discrepancy(unit_channels(student), unit_channels(teacher)))
    return torch.stack(terms).sum()


def unit_channels(maps: Tensor) -> Tensor:
    """Channels [B, C, H·W] of unit L2 norm from maps [B, C, H, W]; all-zero channels stay zero."""
    channels = maps.float().flatten(2)
    if channels.shape[2] == 1:
        # x / |x| is the sign. Its gradient is 0, whereas a norm with a floor has a gradient of
        # 1 / floor = 1e6 for values below the floor, which makes training diverge.
        return channels.sign()
    # The gradient of x / ‖x‖ grows like 1 / ‖x‖; the floor bounds it for channels close to zero.
    return F.normalize(channels, dim=2, eps=1e-6)


def squared_discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    """MMD² of samples [B, C_s, N] and [B, C_t, N] under k(x, y) = (xᵀy)², mean over the batch."""
    samples = torch.cat([student, teacher], 1)  # [B, C_s + C_t, N]
    counts = (student.shape[1], -teacher.shape[1])
    # +1/C_s for the student's channels, −1/C_t for the teacher's: MMD² = weightᵀ K weight
    weight = torch.cat([samples.new_full((abs(count),), 1 / count) for count in counts])
    with full_precision(samples):
        if samples.shape[1] <= samples.shape[2]:
            kernel = (samples @ samples.transpose(1, 2)).square()  # [B, C_s + C_t, C_s + C_t]
            return (kernel @ weight @ weight).mean()
        # (xᵀy)² = ⟨xxᵀ, yyᵀ⟩, so MMD² is also the squared distance of two mean matrices [N, N],
        # which are smaller than the kernel when there are more channels than positions.
        moments = (weight[:, None] * samples).transpose(1, 2) @ samples
        return moments.square().sum((1, 2)).mean()


class NeuronSelectivity(Objective):
    """Neuron selectivity transfer as a loss term, summed over taps.

    Student maps are resampled to the teacher's resolution.

    Args:
        taps: canonical names of taps with maps [B, C, H, W] in both nets.

    Raises:
        ValueError: `taps` is empty.
    """

    tasks = IMAGES
    family = "feature"
    tokens_as_maps = True

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self.pair(taps)

    def select_taps(self, teacher: Outputs) -> None:
        drop_single_positions("nst", self, teacher)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("nst", self.student_taps, student, teacher)
        drop_single_positions("nst", self, teacher, student)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_maps, teacher_maps = (
            [outputs.taps[tap] for tap in self.student_taps] for outputs in (student, teacher)
        )
        return nst(student_maps, teacher_maps)
