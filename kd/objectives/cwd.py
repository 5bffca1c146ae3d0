"""Channel-wise distillation: matches every channel of a map, softened over its positions.

    L = (T² / (B·C)) Σ_b Σ_c KL(p_t ‖ p_s),    p[b, c, :] = softmax over H·W of F[b, c, :] / T

Paper: Shu, Liu, Gao, Yan & Shen, "Channel-wise Knowledge Distillation for Dense Prediction", ICCV
2021, https://arxiv.org/abs/2011.13256.

The paper applies it to maps of class scores as well as to features, with a 1×1 convolution on the
student where the channels differ. Public code agrees on the formula and differs in T: 4 in the
paper, 1 in most configurations for detection.

Reduction: sum over positions, mean over channels and the batch.
"""

import logging
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_temperature
from kd.objectives.maps import IMAGES_AND_BOXES, has_single_position, paired_maps, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

log = logging.getLogger(__name__)


def cwd(student_map: Tensor, teacher_map: Tensor, map_temperature: float = 4.0) -> Tensor:
    """T²·KL of the teacher's channels from the student's, each a distribution over positions.

    Args:
        student_map: [B, C, H, W].
        teacher_map: [B, C, H, W].
        map_temperature: T > 0, for both nets.

    Returns:
        Scalar ≥ 0: sum over positions, mean over channels and the batch; 0 for one position.

    Example:
        A constant added to a channel changes nothing:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.arange(8.0).view(1, 2, 2, 2)
        >>> losses.cwd(teacher + 3, teacher).item() < 1e-5
        True

    Reference:
        Shu et al. 2021, https://arxiv.org/abs/2011.13256
    """
    log_student = F.log_softmax(upcast(student_map).flatten(2) / map_temperature, dim=2)
    log_teacher = F.log_softmax(upcast(teacher_map).flatten(2) / map_temperature, dim=2)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(2)
    return divergence.mean() * map_temperature**2


class ChannelWise(Objective):
    """Channel-wise distillation as a loss term.

    The student's map is resampled to the teacher's resolution; other channels go through a trained
    1×1 convolution.

    Args:
        tap: canonical name of a tap with maps [B, C, H, W] in both nets.
        earlier: taps that may take its place, in order: where the teacher's map at `tap` has a
            single position, the last of them with several does, and a line names it.
        temperature: T > 0, for both nets.

    Raises:
        ValueError: `temperature` is out of range.
    """

    family = "feature"
    tokens_as_maps = True
    tasks = IMAGES_AND_BOXES

    def __init__(
        self, tap: str = "stage3", temperature: float = 4.0, earlier: Sequence[str] = ()
    ) -> None:
        super().__init__()
        own = tap.partition(":")[0]
        self.pair([*(name for name in earlier if name.partition(":")[0] != own), tap])
        self.tap = own
        self.temperature = check_temperature(temperature)
        self.align: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self.select_taps(teacher)
        student_map, teacher_map = paired_maps("cwd", student, teacher, self.tap, self.tap)
        if teacher_map.shape[2] * teacher_map.shape[3] == 1:
            raise UserError(
                f"cwd compares positions, and teacher tap {self.tap!r} has only one: "
                f"{list(teacher_map.shape)}; name an earlier stage"
            )
        if student_map.shape[2] * student_map.shape[3] == 1:
            log.warning(
                "cwd compares positions, and the student's map %s at tap %s has one: the term "
                "is constant up to rounding; name an earlier stage",
                *(list(student_map.shape[1:]), self.tap),
            )
        narrow, wide = student_map.shape[1], teacher_map.shape[1]
        if narrow != wide:
            self.align = nn.Conv2d(narrow, wide, 1, bias=False)

    def select_taps(self, teacher: Outputs) -> None:
        """Keep the pair of `tap`, or the last with several positions where its map has one."""
        first = self.tap
        if has_single_position(first, teacher):
            several = [tap for tap in self.student_taps if not has_single_position(tap, teacher)]
            self.tap = next(reversed(several), first)
        if self.tap != first:
            log.warning(
                "cwd compares positions, and the teacher's map %s at the student's tap %s has one: "
                "the student's tap %s takes its place",
                *(list(teacher.taps[first].shape[1:]), first, self.tap),
            )
        self.keep_pairs([self.tap])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        teacher_map = teacher.taps[self.tap]
        size = (teacher_map.shape[2], teacher_map.shape[3])
        student_map = self.align(resample(student.taps[self.tap], size))
        return cwd(student_map, teacher_map, self.temperature)
