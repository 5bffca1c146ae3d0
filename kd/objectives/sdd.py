"""SDD, scale-decoupled distillation: distils the logits of regions of the image, not of it alone.

    L = (1/(B·N)) Σ_i Σ_n w[i, n] · ℓ(z_s[i, n], z_t[i, n], y[i])
    w = 1 where the teacher is right, or wrong, in region n as for the whole image; β where not

z[i, n] are the logits of region n: the classifier applied to the last map, averaged over one cell
of a grid of s×s, for every s of `scales`. ℓ is the base: soft targets (`kd`), decoupled KD (`dkd`)
or normalised KD (`nkd`) of one sample. Regions of weight 1 are consistent with the whole image,
those of weight β complementary: they show that the image is ambiguous.

Paper: Wei, Luo & Luo, "Scaled Decoupled Distillation", CVPR 2024, in its preprint "Scale Decoupled
Distillation", https://arxiv.org/abs/2403.13512.

The paper adds regions up; its code, and this file, average over them, so that the weight does not
depend on N. The scale 1 is the whole image and has the nets' own logits, which the classifier of
the average is for nets with global pooling: with `scales=[1]` SDD is its base. The code pools to
4×4 first and takes cells of 4×4 twice from smaller maps; here a scale above the smaller map's side
is left out. A student whose classifier does not read its last map (MobileNetV2 widens it once more)
gets a trained 1×1 convolution in between. The code's NKD keeps the label among the other classes;
here it is left out, as in `nkd`.

Reduction: sum over classes, mean over regions and the batch.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.heads import frozen_head, linear_head
from kd.objectives.maps import IMAGES, paired_maps
from kd.objectives.precision import upcast
from kd.objectives.regions import BASES, common_scales, region_logits, region_terms
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def sdd(
    student_regions: Tensor,
    teacher_regions: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    complementary: float = 2.0,
    base: str = "kd",
    other_weight: float = 8.0,
) -> Tensor:
    """Distillation of the logits of regions.

    Args:
        student_regions: logits [B, N, K]; region 0 is the whole image. See
            `kd.objectives.regions.region_logits`.
        teacher_regions: logits [B, N, K].
        target: class indices [B], int64.
        temperature: T > 0, for both nets.
        complementary: β ≥ 0, weight of regions in which the teacher is right and for the whole
            image wrong, or the reverse.
        base: `kd`, `dkd` or `nkd`.
        other_weight: weight ≥ 0 of the classes other than the label, for `dkd` and `nkd`.

    Returns:
        Scalar ≥ 0: sum over classes, mean over regions and the batch.

    Raises:
        ValueError: `base` is unknown.

    Example:
        One region is the base, here soft targets:

        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[4.0, 0.0]])
        >>> losses.sdd(student[:, None], teacher[:, None], torch.tensor([0]))
        tensor(1.7751)

    Reference:
        Wei et al. 2024, https://arxiv.org/abs/2403.13512
    """
    check_choice("base", base, BASES)
    student, teacher = (upcast(regions) for regions in (student_regions, teacher_regions))
    rows = student.flatten(0, 1), teacher.flatten(0, 1)
    repeated = target.repeat_interleave(student.shape[1])
    terms = region_terms(base, *rows, repeated, temperature, other_weight)
    right = teacher.argmax(2) == target[:, None]
    consistent = right == right[:, :1]
    return (torch.where(consistent, 1.0, complementary).flatten() * terms).mean()


class ScaleDecoupled(Objective):
    """Scale-decoupled distillation as a loss term.

    Args:
        student_tap: canonical name of the student's last map [B, C, H, W].
        teacher_tap: canonical name of the map whose average over positions is the input of the
            teacher's head.
        scales: sides of the grids, each once, with 1; those above the smaller map are left out.
        temperature, complementary, base, other_weight: see `sdd`.

    Raises:
        ValueError: a setting is out of range.
    """

    tasks = IMAGES
    family = "response"
    needs_labels = True
    copies_head = True
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        student_tap: str = "stage3",
        teacher_tap: str = "stage3",
        scales: Sequence[int] = (1, 2, 4),
        temperature: float = 4.0,
        complementary: float = 2.0,
        base: str = "kd",
        other_weight: float = 8.0,
    ) -> None:
        super().__init__()
        _check(scales, {"complementary": complementary, "other_weight": other_weight})
        check_choice("base", base, BASES)
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.scales = sorted(scales)
        self.temperature = check_temperature(temperature)
        self.complementary, self.base, self.other_weight = complementary, base, other_weight
        self.align: nn.Module = nn.Identity()
        self.teacher_weight: Tensor
        self.teacher_bias: Tensor | None
        # In a tuple, which torch does not register: the head is the student's parameter.
        self.student_head: tuple[nn.Linear, ...] = ()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        maps = paired_maps("sdd", student, teacher, self.student_tap, self.teacher_tap)
        self.scales = common_scales(self.scales, *maps)
        source = f"the average of tap {self.teacher_tap!r}, a map {list(maps[1].shape)}"
        pooled = maps[1].mean((2, 3))
        copy = frozen_head(setting.teacher_head, pooled, teacher.logits, source)
        frozen = linear_head("sdd", "teacher", copy)
        self.register_buffer("teacher_weight", frozen.weight.detach())
        self.register_buffer("teacher_bias", None if frozen.bias is None else frozen.bias.detach())
        head = linear_head("sdd", "student", setting.student_head)
        if maps[0].shape[1] != head.in_features:
            self.align = nn.Conv2d(maps[0].shape[1], head.in_features, 1, bias=False)
        self.student_head = (head,)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        head, maps = self.student_head[0], self.align(student.taps[self.student_tap])
        ours = region_logits(student.logits, maps, head.weight, head.bias, self.scales)
        frozen = self.teacher_weight, self.teacher_bias
        maps = teacher.taps[self.teacher_tap]
        theirs = region_logits(teacher.logits, maps, *frozen, self.scales)
        settings = self.temperature, self.complementary, self.base, self.other_weight
        return sdd(ours, theirs, batch.target, *settings)


def _check(scales: Sequence[int], weights: dict[str, float]) -> None:
    whole = all(isinstance(scale, int) and scale >= 1 for scale in scales)
    if not whole or 1 not in scales or len({*scales}) < len(scales):
        raise ValueError(f"scales must have 1 and whole numbers ≥ 1, each once, got {scales!r}")
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"{name} must be ≥ 0, got {weight!r}")
