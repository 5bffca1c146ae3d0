"""Factors: what an autoencoder keeps of the teacher's map, told apart from how it is written.

    φ = a factor [B, m, H, W], flattened and divided by its L2 norm
    L_factor = ⟨|φ_s − φ_t|⟩ over every element,      φ_t: encoder of the paraphraser on F_t
    L_paraphrase = ⟨(P(F_t) − F_t)²⟩,                 φ_s: translator on F_s

Both means are over the batch, channels and positions; m is `rate` times the teacher's channels.

Kim, Park & Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", 2018. The
paper trains the paraphraser first, without labels, and then freezes it: the stages `paraphraser`
and `transfer`. Without stages (`""`) both run side by side, each module under its own loss alone.
The paper writes the L1 norm, which is a sum; the authors' code, to which its β = 500 belongs, takes
the mean. RepDistiller compares the factors' attention, ⟨φ²⟩ over channels, in place of the factors:
`variant: attention`.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective, Setting
from kd.objectives.maps import check_maps, resample
from kd.types import Batch, Outputs

VARIANTS = ("paper", "attention")
STAGES = ("", "paraphraser", "transfer")


def factor_distance(student: Tensor, teacher: Tensor, variant: str = "paper") -> Tensor:
    """Mean |difference| of two factors [B, m, H, W] after normalisation."""
    return F.l1_loss(_unit(student, variant), _unit(teacher, variant))


def _unit(factor: Tensor, variant: str) -> Tensor:
    factor = factor.float()
    if variant == "attention":
        factor = factor.square().mean(1)
    return F.normalize(factor.flatten(1), dim=1, eps=1e-6)


def _layers(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], *channels: int) -> nn.Sequential:
    """3×3 layers through these channels, each with batch norm and a leaky ReLU of slope 0.1."""
    layers = nn.Sequential()
    for before, after in pairwise(channels):
        layers.extend([kind(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)])
        layers.append(nn.LeakyReLU(0.1))
    return layers


class FactorTransfer(Objective):
    """Distance between the translated student map and the teacher's factor, at one tap.

    The student's map is resampled to the teacher's resolution first.

    Stages: `paraphraser` returns the paraphraser's loss alone, from which the student learns
    nothing; `transfer` freezes the paraphraser and returns the distance; `""` returns their sum.

    Args:
        tap: a tap with maps [B, C, H, W] in both nets, in the paper the last stage.
        rate: the paper's k, the factor's channels as a share of the teacher's.
        variant: `paper` or `attention`.
    """

    family = "feature"

    def __init__(self, tap: str = "stage3", rate: float = 0.5, variant: str = "paper") -> None:
        super().__init__()
        if rate <= 0:
            raise ValueError(f"rate must be > 0, got {rate!r}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {list(VARIANTS)}, got {variant!r}")
        self.tap, self.rate, self.variant = tap, rate, variant
        self.student_taps = self.teacher_taps = (tap,)
        self.encoder: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        self.translator: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("ft", self.student_taps, student, teacher)
        narrow, wide = student.taps[self.tap].shape[1], teacher.taps[self.tap].shape[1]
        factor = max(1, round(self.rate * wide))
        self.encoder = _layers(nn.Conv2d, wide, wide, factor, factor)
        self.decoder = _layers(nn.ConvTranspose2d, factor, factor, wide, wide)
        self.translator = _layers(nn.Conv2d, narrow, narrow, factor, factor)
        self.enter(self.stage)

    def enter(self, stage: str) -> None:
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {list(STAGES)}, got {stage!r}")
        super().enter(stage)
        self.encoder.requires_grad_(stage != "transfer")
        self.decoder.requires_grad_(stage != "transfer")
        self.train(self.training)

    def train(self, mode: bool = True) -> "FactorTransfer":
        """Set the mode; a frozen paraphraser keeps its batch statistics."""
        super().train(mode)
        if self.stage == "transfer":
            self.encoder.eval()
            self.decoder.eval()
        return self

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = student.taps[self.tap], teacher.taps[self.tap]
        factor = self.encoder(theirs)
        if self.stage == "transfer":
            return self._distance(ours, factor)
        loss = F.mse_loss(self.decoder(factor).float(), theirs.float())
        return loss if self.stage == "paraphraser" else loss + self._distance(ours, factor)

    def _distance(self, ours: Tensor, factor: Tensor) -> Tensor:
        ours = self.translator(resample(ours, (factor.shape[2], factor.shape[3])))
        # Else the paraphraser would learn to be easy to copy.
        return factor_distance(ours, factor.detach(), self.variant)
