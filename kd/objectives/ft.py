"""Factor transfer: matches what an autoencoder extracts from the teacher's map.

    L_factor     = ⟨|φ_s − φ_t|⟩ over every element, of factors φ = vec(·) / ‖vec(·)‖₂
    L_paraphrase = ⟨(P(F_t) − F_t)²⟩

φ_t is the encoding [B, m, H, W] of F_t by the paraphraser P, an autoencoder; φ_s is the output of
the translator on F_s. m is `rate` times the teacher's channels.

Paper: Kim, Park & Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer",
NeurIPS 2018, https://arxiv.org/abs/1802.04977.

The paper trains the paraphraser first, without labels, and then freezes it: the stages
`paraphraser` and `transfer`. Without stages (`""`) both train at once, each by its own loss alone.
The paper writes the L1 norm, which is a sum; the authors' code, to which the paper's β = 500
belongs, takes the mean. RepDistiller compares the attention of the factors, ⟨φ²⟩ over channels:
`variant="attention"`.

Reduction: mean over the batch, channels and positions in both terms.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.maps import IMAGES, check_maps, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("paper", "attention")
STAGES = ("", "paraphraser", "transfer")


def ft(student_factor: Tensor, teacher_factor: Tensor, variant: str = "paper") -> Tensor:
    """Mean absolute difference of normalised factors.

    Args:
        student_factor: output of the translator [B, m, H, W].
        teacher_factor: output of the paraphraser's encoder [B, m, H, W].
        variant: "paper" for the factors, "attention" for their mean square over channels.

    Returns:
        Scalar ≥ 0: mean over all elements of the factors or attention maps, which have length 1
        per image.

    Example:
        Factors are scaled to length 1 first:

        >>> import torch
        >>> from kd import losses
        >>> factor = torch.arange(8.0).view(1, 2, 2, 2)
        >>> losses.ft(5 * factor, factor).item() < 1e-6
        True

    Reference:
        Kim et al. 2018, https://arxiv.org/abs/1802.04977
    """
    check_choice("variant", variant, VARIANTS)
    return F.l1_loss(_unit(student_factor, variant), _unit(teacher_factor, variant))


def _unit(factor: Tensor, variant: str) -> Tensor:
    factor = upcast(factor)
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
    """Factor transfer as a loss term, with paraphraser and translator, at one tap.

    The student's map is resampled to the teacher's resolution first.

    Stages: `paraphraser` returns L_paraphrase, which trains nothing of the student; `transfer`
    freezes the paraphraser and returns L_factor; `""` returns their sum.

    Args:
        tap: canonical name of a tap with maps [B, C, H, W] in both nets, in the paper the last
            stage.
        rate: the paper's k > 0, channels of the factor divided by those of the teacher.
        variant: "paper" or "attention"; see `ft`.

    Raises:
        ValueError: `rate` is out of range, or there is no such variant.
    """

    tasks = IMAGES
    family = "feature"
    tokens_as_maps = True

    def __init__(self, tap: str = "stage3", rate: float = 0.5, variant: str = "paper") -> None:
        super().__init__()
        if rate <= 0:
            raise ValueError(f"rate must be > 0, got {rate!r}")
        check_choice("variant", variant, VARIANTS)
        self.rate, self.variant = rate, variant
        self.pair((tap,))
        (self.tap,) = self.student_taps
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
        check_choice("stage", stage, STAGES)
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
        student_map, teacher_map = student.taps[self.tap], teacher.taps[self.tap]
        factor = self.encoder(teacher_map)
        if self.stage == "transfer":
            return self._transfer(student_map, factor)
        loss = F.mse_loss(self.decoder(factor).float(), teacher_map.float())
        return loss if self.stage == "paraphraser" else loss + self._transfer(student_map, factor)

    def _transfer(self, student_map: Tensor, factor: Tensor) -> Tensor:
        size = (factor.shape[2], factor.shape[3])
        student_factor = self.translator(resample(student_map, size))
        # With a gradient, the paraphraser would learn factors that are easy to match.
        return ft(student_factor, factor.detach(), self.variant)
