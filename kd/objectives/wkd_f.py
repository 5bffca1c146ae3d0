"""Wasserstein distance of feature distributions (WKD-F): matches mean and deviation of channels.

    L = (1/B) Σ_b ⟨γ·‖μ_s − μ_t‖² + ‖σ_s − σ_t‖²⟩_r

μ, σ [C] are the mean and the standard deviation of every channel over the positions of a region r
of one image's map; the student's map goes through a trained 1×1 convolution with batch norm and
ReLU first. With γ = 1 this is the squared 2-Wasserstein distance of the two Gaussians of diagonal
covariance that have these moments. The order of positions does not matter, so maps of any two
resolutions compare.

Paper: Lv, Yang & Li, "Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge
Distillation", NeurIPS 2024, https://arxiv.org/abs/2412.08139.

`grid` = 1 is one region, the whole map, as in the paper's experiments on CIFAR-100; `grid` = n are
n×n regions. As in the authors' code σ² has 1e-5 added. That code divides by one position less than
there are, which a map of a single position does not allow; here σ² is the mean of squares. It
lowers the weight by half a cosine from 150 of 240 epochs on; here the weight is constant.

Reduction: sum over channels, mean over regions and the batch.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.maps import IMAGES_AND_BOXES, paired_maps
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

SMALLEST = 1e-5  # added to a variance, as in the authors' code


def wkd_f(
    student_map: Tensor, teacher_map: Tensor, mean_weight: float = 4.0, grid: int = 1
) -> Tensor:
    """Squared Wasserstein distance of the Gaussians of two maps, the means' part weighted.

    Args:
        student_map: [B, C, H, W], already projected to the teacher's channels.
        teacher_map: [B, C, H', W'].
        mean_weight: γ ≥ 0, weight of the means' distance.
        grid: number n ≥ 1 of regions along each side of the map, at most its positions there.

    Returns:
        Scalar ≥ 0: sum over channels, mean over regions and the batch.

    Example:
        A shift by 2 changes the mean and not the deviation:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.arange(4.0).view(1, 1, 2, 2)
        >>> losses.wkd_f(teacher + 2, teacher, mean_weight=1.0).item()
        4.0

    Reference:
        Lv et al. 2024, https://arxiv.org/abs/2412.08139
    """
    (our_mean, our_deviation), (their_mean, their_deviation) = (
        region_moments(upcast(maps), grid) for maps in (student_map, teacher_map)
    )
    means = (our_mean - their_mean).square()
    deviations = (our_deviation - their_deviation).square()
    return (mean_weight * means + deviations).sum(1).mean()


def region_moments(maps: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the regions of maps [B, C, H, W]: each [B, C, grid, grid]."""
    # Means of squares lose the digits of a variance far below the squared mean.
    whole = maps.mean((2, 3), keepdim=True)
    centred = maps - whole
    mean = F.adaptive_avg_pool2d(centred, grid)
    variance = F.adaptive_avg_pool2d(centred.square(), grid) - mean.square()
    return mean + whole, (variance.clamp_min(0) + SMALLEST).sqrt()


class WassersteinFeatures(Objective):
    """WKD-F as a loss term, with a trained projection of the student's map.

    Args:
        tap: canonical name of a tap with maps [B, C, H, W] in both nets.
        mean_weight: γ ≥ 0, weight of the means' distance.
        grid: whole number n ≥ 1 of regions along each side of the map, at most the positions of
            the smaller one.

    Raises:
        ValueError: a setting is out of range.
    """

    family = "feature"
    tasks = IMAGES_AND_BOXES

    def __init__(self, tap: str = "stage3", mean_weight: float = 4.0, grid: int = 1) -> None:
        super().__init__()
        if not mean_weight >= 0:
            raise ValueError(f"mean_weight must be ≥ 0, got {mean_weight!r}")
        if grid < 1:
            raise ValueError(f"grid must be a whole number ≥ 1, got {grid!r}")
        self.pair((tap,))
        (self.tap,) = self.student_taps
        self.mean_weight, self.grid = mean_weight, grid
        self.projector: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        student_map, teacher_map = paired_maps("wkd_f", student, teacher, self.tap, self.tap)
        side = min(*student_map.shape[2:], *teacher_map.shape[2:])
        if self.grid > side:
            raise UserError(
                f"wkd_f has grid={self.grid} regions along each side of tap {self.tap!r}, where "
                f"the maps {list(student_map.shape[1:])} of the student and "
                f"{list(teacher_map.shape[1:])} of the teacher have {side} positions a side in "
                f"common; set method.grid to at most {side}, or name an earlier stage"
            )
        width = teacher_map.shape[1]
        self.projector = nn.Sequential(
            nn.Conv2d(student_map.shape[1], width, 1), nn.BatchNorm2d(width), nn.ReLU()
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        projected = self.projector(student.taps[self.tap])
        return wkd_f(projected, teacher.taps[self.tap], self.mean_weight, self.grid)
