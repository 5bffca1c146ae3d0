"""Masked generative distillation: generates the teacher's map from a masked student map.

    L = ⟨(g(M ⊙ a(F_s)) − F_t)²⟩,    g = conv3×3 – ReLU – conv3×3,    a = 1×1 convolution

M is 0 with probability λ and 1 otherwise, drawn in every step; ⟨·⟩ is the mean over the batch,
channels and positions.

Paper: Yang, Li, Shao, Shi, Yuan & Yuan, "Masked Generative Distillation", ECCV 2022,
https://arxiv.org/abs/2205.01529.

The paper masks positions, all channels of a position alike. The authors' classification code masks
whole channels instead, and fewer of them: `variant="channels"`.

Reduction: mean over the batch, channels and positions. Paper and authors' code sum over channels
and positions, which ties the weight to the size of the map: 7e-5 for ImageNet's maps of 512×7×7 is
1.76 here. mmrazor sums as well, ModelOpt takes the mean.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.maps import IMAGES_AND_BOXES, paired_maps, resample
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("paper", "channels")


def mgd(
    student_map: Tensor,
    teacher_map: Tensor,
    generator: Callable[[Tensor], Tensor],
    masked: float = 0.5,
    variant: str = "paper",
) -> Tensor:
    """Mean squared error between the teacher's map and the one generated from a masked student map.

    Draws the mask from torch's global random numbers.

    Args:
        student_map: [B, C, H, W], already aligned to the teacher's shape.
        teacher_map: [B, C, H, W].
        generator: g, a module or function from [B, C, H, W] to the same shape.
        masked: λ in [0, 1), the expected fraction of the student's map that is set to 0.
        variant: `paper` masks positions, `channels` whole channels.

    Returns:
        Scalar ≥ 0: mean over the batch, channels and positions.

    Raises:
        ValueError: `variant` is unknown.

    Example:
        Without a mask and with the identity as generator it is the mean squared error:

        >>> import torch
        >>> from kd import losses
        >>> maps = torch.ones(1, 2, 3, 3)
        >>> losses.mgd(maps, 3 * maps, torch.nn.Identity(), masked=0.0).item()
        4.0

    Reference:
        Yang et al. 2022, https://arxiv.org/abs/2205.01529
    """
    check_choice("variant", variant, VARIANTS)
    generated = generator(student_map * random_mask(student_map, masked, variant))
    return F.mse_loss(generated.float(), teacher_map.float())


def random_mask(maps: Tensor, masked: float, variant: str = "paper") -> Tensor:
    """Random zeros and ones for maps [B, C, H, W], with an expected fraction `masked` of zeros.

    Returns:
        [B, 1, H, W] for `paper`, [B, C, 1, 1] for `channels`.
    """
    images, channels, height, width = maps.shape
    shape = (images, channels, 1, 1) if variant == "channels" else (images, 1, height, width)
    return (torch.rand(shape, device=maps.device) >= masked).to(maps.dtype)


class MaskedGenerative(Objective):
    """Masked generative distillation as a loss term, with a trained generator.

    The student's map is resampled to the teacher's resolution, and a trained 1×1 convolution brings
    it to the teacher's channels where they differ.

    Args:
        tap: canonical name of a tap with maps [B, C, H, W] in both nets.
        masked: λ in [0, 1), the expected fraction of the student's map that is set to 0.
        variant: `paper` masks positions, `channels` whole channels.

    Raises:
        ValueError: `masked` is out of range, or `variant` is unknown.
    """

    family = "feature"
    tokens_as_maps = True
    tasks = IMAGES_AND_BOXES

    def __init__(self, tap: str = "stage3", masked: float = 0.5, variant: str = "paper") -> None:
        super().__init__()
        if not 0 <= masked < 1:
            raise ValueError(f"masked must be a fraction in [0, 1), got {masked!r}")
        check_choice("variant", variant, VARIANTS)
        self.pair((tap,))
        (self.tap,) = self.student_taps
        self.masked = masked
        self.variant = variant
        self.align: nn.Module = nn.Identity()
        self.generator: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        student_map, teacher_map = paired_maps("mgd", student, teacher, self.tap, self.tap)
        student_channels, teacher_channels = student_map.shape[1], teacher_map.shape[1]
        if student_channels != teacher_channels:
            self.align = nn.Conv2d(student_channels, teacher_channels, 1)
        # As wide inside as the teacher's map, as in the authors' code.
        self.generator = nn.Sequential(
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1),
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        teacher_map = teacher.taps[self.tap]
        size = (teacher_map.shape[2], teacher_map.shape[3])
        student_map = self.align(resample(student.taps[self.tap], size))
        return mgd(student_map, teacher_map, self.generator, self.masked, self.variant)
