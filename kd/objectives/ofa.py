"""One-for-all (OFA-KD): exits of the student's stages learn the teacher's and the labels' classes.

    L = Σ_e (1/B) Σ_i [ −(1 + p_t[y])^γ · log p_e[y] − Σ_{k≠y} p_t[k] · log p_e[k] ]

p_e are the probabilities of the student's exit e, p_t the teacher's, y is the label. Nets of
different architectures have features that cannot be compared; their logits can. So each stage of
the student has a branch that ends in logits. γ > 1 raises the share of the label's class where the
teacher is sure of it; with γ = 1 the term is the cross-entropy with the label plus that with p_t.

Paper: Hao, Guo, Han, Tang, Hu, Wang & Xu, "One-for-All: Bridge the Gap Between Heterogeneous
Architectures in Knowledge Distillation", NeurIPS 2023, https://arxiv.org/abs/2310.19444.

The authors' code has the exponent at all classes and leaves out the label's own cross-entropy:
weights (1 + p_t[y])^γ − 1 and p_t[k]^γ, `variant="code"`, and also applies the term to the
student's own logits, as `final=True` does here. Its branches are two depthwise separable
convolutions for each later stage of a convolutional net, as wide at last as the wider of both nets,
and attention blocks for a transformer. Here they are one such convolution for each later stage for
all nets, as wide at last as the student's last stage, with the patches of a transformer or a Mixer
as a map; its stride is 2 while the map is larger than the last stage's.

Reduction: sum over classes and exits, mean over the batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.maps import IMAGES, as_map
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

VARIANTS = ("paper", "code")


def ofa(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    gamma: float = 1.5,
    variant: str = "paper",
) -> Tensor:
    """Cross-entropy with the teacher's probabilities, enhanced at the label's class.

    Args:
        student_logits: [B, K], of one exit.
        teacher_logits: [B, K].
        target: class indices [B], int64.
        gamma: γ > 0.
        variant: "paper" or "code", see above.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Raises:
        ValueError: `variant` is unknown.

    Example:
        (1 + ½)^1 · log 2 + ½ · log 2:

        >>> from kd import losses
        >>> zeros = torch.zeros(1, 2)
        >>> round(losses.ofa(zeros, zeros, torch.tensor([0]), gamma=1.0).item(), 4)
        1.3863

    Reference:
        Hao et al. 2023, https://arxiv.org/abs/2310.19444
    """
    check_choice("variant", variant, VARIANTS)
    teacher = F.softmax(upcast(teacher_logits), dim=1)
    label = F.one_hot(target, teacher.shape[1]).to(teacher.dtype)
    enhanced = (teacher + label).pow(gamma)
    weights = enhanced - label if variant == "code" else torch.lerp(teacher, enhanced, label)
    return -(weights * F.log_softmax(upcast(student_logits), dim=1)).sum(1).mean()


class OneForAll(Objective):
    """One-for-all as a loss term, with a trained branch for each exit.

    Args:
        taps: canonical names of the student's stages with an exit, in order.
        gamma: γ > 0.
        variant: "paper" or "code"; see the module.
        final: whether the student's own logits are one more exit.

    Raises:
        ValueError: `taps` is empty, `gamma` is out of range, or `variant` is unknown.
    """

    family = "feature"
    tasks = IMAGES
    needs_labels = True
    tokens_as_maps = True

    def __init__(
        self, taps: Sequence[str], gamma: float = 1.5, variant: str = "paper", final: bool = True
    ) -> None:
        super().__init__()
        if not taps:
            raise ValueError("taps is empty: name stages of the student, as [stage1, stage2]")
        if not gamma > 0:
            raise ValueError(f"gamma must be > 0, got {gamma!r}")
        check_choice("variant", variant, VARIANTS)
        self.student_taps = tuple(taps)
        self.gamma, self.variant, self.final = gamma, variant, final
        self.exits = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        maps = [as_map(student.taps[tap]) for tap in self.student_taps]
        for tap, each in zip(self.student_taps, maps, strict=True):
            if each.dim() != 4:
                raise UserError(
                    f"ofa needs maps [B, C, H, W], tokens of square patches or vectors [B, D] at "
                    f"the student's tap {tap!r}, which has {list(each.shape)}"
                )
        for place, (tap, each) in enumerate(zip(self.student_taps, maps, strict=True), start=1):
            later = len(maps) - place
            self.exits[tap] = branch(each, maps[-1], later, setting.num_classes)

    def exit_logits(self, student: Outputs) -> list[Tensor]:
        """Logits [B, K] of every exit, those of the student itself last."""
        exits = [branch(as_map(student.taps[tap])) for tap, branch in self.exits.items()]
        return [*exits, student.logits] if self.final else exits

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        settings = teacher.logits, batch.target, self.gamma, self.variant
        return torch.stack([ofa(logits, *settings) for logits in self.exit_logits(student)]).sum()


def branch(maps: Tensor, last: Tensor, later: int, num_classes: int) -> nn.Sequential:
    """Layers from a stage's map to logits.

    Args:
        maps: of the stage [B, C, H, W].
        last: of the last stage [B, C', H', W'], whose width the branch has before its classifier.
        later: number of later stages; for each one depthwise separable convolution, for the last
            stage a 1×1 convolution.
        num_classes: K.
    """
    channels, width, side = maps.shape[1], last.shape[1], maps.shape[2]
    layers: list[nn.Module] = []
    for step in range(later):
        stride = 2 if side > last.shape[2] else 1
        side = -(-side // stride)
        layers.append(nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False))
        layers += _pointwise(channels, width if step == later - 1 else channels)
    layers += [] if later else _pointwise(channels, width)
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, *pool, nn.Linear(width, num_classes))


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
