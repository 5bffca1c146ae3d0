"""Variational information distillation: a Gaussian model of the teacher given the student.

    L = Σ_l ⟨½·[(F_t − μ(F_s))² / σ_c² + log σ_c²]⟩ over the batch, channels and positions
    σ_c² = log(1 + exp(α_c)) + ε,    one trained α per channel of the teacher

This is −log q(F_t | F_s) without its constant, which bounds the mutual information of the two
tensors from below. A channel that the student cannot predict gets a large variance and a small
weight. The term may be negative. μ is trained: three 1×1 convolutions with ReLUs between.

Paper: Ahn, Hu, Damianou, Lawrence & Dai, "Variational Information Distillation for Knowledge
Transfer", CVPR 2019, https://arxiv.org/abs/1904.05835.

The paper sums over the elements; the usual weight of 1 belongs to their mean. In mdistiller the
variances are in no optimizer, so they stay at 5 and the term is the mean square / 10.

Reduction: ⟨·⟩ is the mean over the batch, channels and positions; sum over taps.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.maps import as_map, resample
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

FLOOR = 1e-5  # ε, the smallest variance: log σ² has no lower bound


def vid(
    predicted_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], alphas: Sequence[Tensor]
) -> Tensor:
    """Gaussian negative log-likelihood of the teacher's maps, summed over taps.

    Args:
        predicted_maps: means μ(F_s), each [B, C, H, W] of the teacher's shape.
        teacher_maps: each [B, C, H, W].
        alphas: α [C] for every tap; the variance is softplus(α) + 1e-5.

    Returns:
        Scalar of any sign: mean over the batch, channels and positions, sum over taps.

    Example:
        With the variance 1, half the mean squared error:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.zeros(1, 2, 3, 3)
        >>> alpha = torch.full((2,), 1 - 1e-5).expm1().log()
        >>> round(losses.vid([teacher + 2], [teacher], [alpha]).item(), 4)
        2.0

    Reference:
        Ahn et al. 2019, https://arxiv.org/abs/1904.05835
    """
    taps = zip(predicted_maps, teacher_maps, alphas, strict=True)
    return torch.stack([gaussian_nll(*tap) for tap in taps]).sum()


def gaussian_nll(mean: Tensor, teacher: Tensor, alpha: Tensor) -> Tensor:
    """−log density of maps [B, C, H, W] without its constant, variance softplus(α) + ε, α [C]."""
    variance = F.softplus(alpha.float()) + FLOOR
    error = (teacher.float() - mean.float()).square().mean((0, 2, 3))  # [C]
    return (error / variance + variance.log()).mean() / 2


def _regressor(in_channels: int, out_channels: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1))
    for _ in range(2):
        layers.extend([nn.ReLU(), nn.Conv2d(out_channels, out_channels, 1)])
    return layers


class VariationalInformation(Objective):
    """Variational information distillation as a loss term, with trained means and variances.

    Student maps are resampled to the teacher's resolution; a vector counts as one position.

    Args:
        taps: canonical names of taps with maps [B, C, H, W] or vectors [B, D].
        variance: initial σ² > 1e-5 of every channel, in the squared unit of the teacher's tensor.

    Raises:
        ValueError: `taps` is empty, or `variance` is out of range.
    """

    family = "feature"
    tokens_as_maps = True

    def __init__(self, taps: Sequence[str], variance: float = 5.0) -> None:
        super().__init__()
        self.pair(taps)
        if variance <= FLOOR:
            raise ValueError(f"variance must be > {FLOOR}, got {variance!r}")
        self.variance = variance
        self.regressors = nn.ModuleDict()
        self.alphas = nn.ParameterDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        start = self.variance - FLOOR
        start += math.log(-math.expm1(-start))  # the inverse of softplus, without overflow
        for tap in self.student_taps:
            student_shape, teacher_shape = (
                outputs.taps[tap].shape for outputs in (student, teacher)
            )
            if not {len(student_shape), len(teacher_shape)} <= {2, 4}:
                raise UserError(
                    f"vid needs maps [B, C, H, W] or vectors [B, D] at tap {tap!r}; the student "
                    f"has {list(student_shape)}, the teacher {list(teacher_shape)}"
                )
            self.regressors[tap] = _regressor(student_shape[1], teacher_shape[1])
            self.alphas[tap] = nn.Parameter(torch.full((teacher_shape[1],), start))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        predicted, targets = [], []
        for tap, regressor in self.regressors.items():
            student_map, teacher_map = as_map(student.taps[tap]), as_map(teacher.taps[tap])
            size = (teacher_map.shape[2], teacher_map.shape[3])
            predicted.append(regressor(resample(student_map, size)))
            targets.append(teacher_map)
        return vid(predicted, targets, [self.alphas[tap] for tap in self.student_taps])
