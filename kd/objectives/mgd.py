"""The teacher's whole map, generated from the student's with parts left out.

    L = ⟨(g(M ⊙ a(F_s)) − F_t)²⟩,    g = conv3×3 – ReLU – conv3×3,    a = 1×1 convolution

M is 0 where a fresh uniform number is below the masked share and 1 elsewhere; ⟨·⟩ is the mean over
the batch, channels and positions.

Yang, Li, Shao, Shi, Yuan & Yuan, "Masked Generative Distillation", 2022. The paper masks positions,
all channels of one alike. The authors' classification code masks whole channels instead, and fewer:
`variant: channels`. Paper and code sum over channels and positions, which ties the weight to the
map's size; the mean used here keeps it portable. 7e-5 on ImageNet's maps of 512×7×7 is 1.76 here.
mmrazor's and the authors' detection code sum as well, ModelOpt takes the mean.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import paired_maps, resample
from kd.types import Batch, Outputs

VARIANTS = ("paper", "channels")


def random_mask(maps: Tensor, masked: float, variant: str = "paper") -> Tensor:
    """Ones with a share `masked` of zeros, for maps [B, C, H, W].

    Positions [B, 1, H, W], or channels [B, C, 1, 1] for the variant `channels`.
    """
    images, channels, height, width = maps.shape
    shape = (images, channels, 1, 1) if variant == "channels" else (images, 1, height, width)
    return (torch.rand(shape, device=maps.device) >= masked).to(maps.dtype)


class MaskedGenerative(Objective):
    """Mean squared error between the teacher's map and what is generated from the masked student's.

    The student's map is resampled to the teacher's resolution; other channels go through a trained
    1×1 convolution. The generator is trained with the student.

    Args:
        tap: a tap with maps [B, C, H, W] in both nets.
        masked: the share that is left out, in [0, 1).
        variant: `paper` masks positions, `channels` whole channels.
    """

    family = "feature"

    def __init__(self, tap: str = "stage3", masked: float = 0.5, variant: str = "paper") -> None:
        super().__init__()
        if not 0 <= masked < 1:
            raise ValueError(f"masked must be a share in [0, 1), got {masked!r}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        self.tap = tap
        self.student_taps = self.teacher_taps = (tap,)
        self.masked = masked
        self.variant = variant
        self.align: nn.Module = nn.Identity()
        self.generator: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = paired_maps("mgd", student, teacher, self.tap, self.tap)
        narrow, wide = ours.shape[1], theirs.shape[1]
        if narrow != wide:
            self.align = nn.Conv2d(narrow, wide, 1)
        self.generator = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, wide, 3, padding=1)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        theirs = teacher.taps[self.tap]
        ours = self.align(resample(student.taps[self.tap], (theirs.shape[2], theirs.shape[3])))
        generated = self.generator(ours * random_mask(ours, self.masked, self.variant))
        return F.mse_loss(generated.float(), theirs.float())
