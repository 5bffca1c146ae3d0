"""Information: the student's tensor as the input of a Gaussian model of the teacher's.

    L = Σ_l ⟨½·[(F_t − μ(F_s))² / σ_c² + log σ_c²]⟩ over the batch, channels and positions
    σ_c² = log(1 + exp(α_c)) + ε,    one trained α for every channel of the teacher

That is −log q(F_t | F_s) without its constant: a bound on the information that the student's tensor
carries about the teacher's. A channel the student cannot foretell gets a large variance and counts
little. The term may be negative. μ is trained: three 1×1 convolutions with ReLUs between.

Ahn, Hu, Damianou, Lawrence & Dai, "Variational Information Distillation for Knowledge Transfer",
2019. The paper sums over the elements; the mean is what the usual weight of 1 belongs to. In
mdistiller the variance is in no optimizer, so it stays at 5 and the term is the mean square / 10.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.maps import as_map, resample
from kd.types import Batch, Outputs

FLOOR = 1e-5  # ε


def gaussian_nll(mean: Tensor, teacher: Tensor, alpha: Tensor) -> Tensor:
    """−log density of maps [B, C, H, W] without its constant, variance softplus(α) + ε, α [C]."""
    variance = F.softplus(alpha.float()) + FLOOR
    error = (teacher.float() - mean.float()).square().mean((0, 2, 3))
    return (error / variance + variance.log()).mean() / 2


def _regressor(narrow: int, wide: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(narrow, wide, 1))
    for _ in range(2):
        layers.extend([nn.ReLU(), nn.Conv2d(wide, wide, 1)])
    return layers


class VariationalInformation(Objective):
    """Gaussian −log q of the teacher's tensors given the student's, summed over the taps.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: taps of both nets.
        variance: σ² at the start, for every channel.
    """

    family = "feature"

    def __init__(self, taps: Sequence[str], variance: float = 5.0) -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: the two nets have no stage in common; name some")
        if variance <= FLOOR:
            raise ValueError(f"variance must be > {FLOOR}, got {variance!r}")
        self.student_taps = self.teacher_taps = tuple(taps)
        self.variance = variance
        self.regressors = nn.ModuleDict()
        self.alphas = nn.ParameterDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        start = self.variance - FLOOR
        start += math.log(-math.expm1(-start))  # the inverse of softplus, without overflow
        for tap in self.student_taps:
            ours, theirs = (outputs.taps[tap].shape for outputs in (student, teacher))
            if not {len(ours), len(theirs)} <= {2, 4}:
                raise UserError(
                    f"vid needs maps [B, C, H, W] or vectors [B, D] at tap {tap!r}; the student "
                    f"has {list(ours)}, the teacher {list(theirs)}"
                )
            self.regressors[tap] = _regressor(ours[1], theirs[1])
            self.alphas[tap] = nn.Parameter(torch.full((theirs[1],), start))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        terms = []
        for tap, regressor in self.regressors.items():
            ours, theirs = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            mean = regressor(resample(ours, (theirs.shape[2], theirs.shape[3])))
            terms.append(gaussian_nll(mean, theirs, self.alphas[tap]))
        return torch.stack(terms).sum()
