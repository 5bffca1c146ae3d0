"""SSKD: matches the similarities of rotated to unrotated images, and the classes of rotated ones.

    L = w_c T_c² ⟨KL(B_t[r] ‖ B_s[r])⟩ over the transferred rotated images r
        + w_r T² ⟨KL(p_t^T[r] ‖ p_s^T[r])⟩ over all rotated images

    B[r] = softmax over the images j of the batch of cos(h(f(x̃_r)), h(f(x_j))) / T_c

f is the embedding of a net, h its head of two layers, x_j the images and x̃_r their copies rotated
by 90, 180 and 270 degrees. Transferred are the rotated images that the teacher finds most similar
to their own original, and of the others the share `kept` with the original ranked highest.

Paper: Xu, Liu, Li & Loy, "Knowledge Distillation Meets Self-Supervision", ECCV 2020,
https://arxiv.org/abs/2006.07114.

In the stage `head` the teacher's head learns to find the original, −log softmax(cos)[original]; it
is frozen in the stage `transfer`. Without stages (`""`) it learns beside the student.

Differences from the authors' code: rotated images pass through the student in a batch of their own,
which has batch norm statistics of its own and updates the running ones a second time. The code has
a ratio for the rotated classes as well (`ratio_tf`), whose value is to keep all.

Reduction: sum over images of the batch or classes, mean over the rotated images that count.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.kd import kd, kl_per_sample
from kd.objectives.maps import IMAGES
from kd.objectives.originals import similarities, transferred
from kd.objectives.pairs import ONE_BATCH
from kd.objectives.precision import upcast
from kd.objectives.rotations import TURNS, both_runs, rotated
from kd.objectives.setting import Run, Setting
from kd.types import Batch, Outputs

STAGES = ("", "head", "transfer")
_TAP = "embedding"


def sskd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_similarity: Tensor,
    teacher_similarity: Tensor,
    original: Tensor,
    temperature: float = 4.0,
    contrast_temperature: float = 0.5,
    kept: float = 0.75,
    contrast: float = 10.0,
    transformed: float = 2.7,
) -> Tensor:
    """Divergence of similarities and of classes of rotated images.

    Args:
        student_logits: of the rotated images [R, K].
        teacher_logits: of the rotated images [R, K].
        student_similarity: of each rotated image to the images of the batch [R, B].
        teacher_similarity: the same of the teacher [R, B].
        original: position in the batch of each rotated image's original [R].
        temperature: T > 0 of the classes.
        contrast_temperature: T_c > 0 of the similarities.
        kept: share of the wrongly matched images that is transferred, in [0, 1].
        contrast: weight w_c ≥ 0.
        transformed: weight w_r ≥ 0.

    Returns:
        Scalar ≥ 0.

    Example:
        >>> logits, similarity = torch.zeros(3, 5), torch.zeros(3, 1)
        >>> sskd(logits, logits, similarity, similarity, torch.tensor([0, 0, 0]))
        tensor(0.)

    Reference:
        Xu et al. 2020, https://arxiv.org/abs/2006.07114
    """
    ours, theirs = upcast(student_similarity), upcast(teacher_similarity)
    log_s, log_t = ((each / contrast_temperature).log_softmax(1) for each in (ours, theirs))
    used = transferred(theirs, original, kept)
    similar = (used * kl_per_sample(log_s, log_t)).sum() / used.sum().clamp(min=1)
    classes = kd(student_logits, teacher_logits, temperature)
    return contrast * contrast_temperature**2 * similar + transformed * classes


class SelfSupervision(Objective):
    """SSKD as a loss term, with a head on the embedding of each net; see `sskd`.

    Stages: `head` trains the teacher's head alone; `transfer` freezes it and returns the loss of
    the student; `""` returns the sum.

    Args:
        temperature: T > 0 of the rotated images' classes.
        contrast_temperature: T_c > 0 of the similarities.
        kept: share of the wrongly matched images that is transferred, in [0, 1].
        contrast: weight of the similarities, ≥ 0.
        transformed: weight of the rotated images' classes, ≥ 0.

    Raises:
        ValueError: a setting is out of range.
    """

    tasks = IMAGES
    family = "relation"
    reads_logits = True
    runs_nets = True
    one_device = ONE_BATCH
    scheduled: ClassVar = {"temperature": check_temperature}
    student_taps = (_TAP,)
    teacher_taps = (_TAP,)

    def __init__(
        self,
        temperature: float = 4.0,
        contrast_temperature: float = 0.5,
        kept: float = 0.75,
        contrast: float = 10.0,
        transformed: float = 2.7,
    ) -> None:
        super().__init__()
        if not 0 <= kept <= 1:
            raise ValueError(f"kept must be in [0, 1], got {kept!r}")
        if not min(contrast, transformed) >= 0:
            raise ValueError(
                f"contrast and transformed must be ≥ 0, got {contrast!r} and {transformed!r}"
            )
        self.temperature = check_temperature(temperature)
        self.contrast_temperature = check_temperature(contrast_temperature)
        self.kept, self.contrast, self.transformed = kept, contrast, transformed
        self._runs: tuple[Run, ...] = ()
        self.student_head: nn.Module = nn.Identity()
        self.teacher_head: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self._runs = both_runs("sskd", setting)
        widths = [outputs.taps[_TAP].shape[1:] for outputs in (student, teacher)]
        if any(len(width) != 1 for width in widths):
            raise UserError(
                f"sskd needs embeddings [B, D]; the student has {list(student.taps[_TAP].shape)}, "
                f"the teacher {list(teacher.taps[_TAP].shape)}"
            )
        self.student_head, self.teacher_head = (_head(*width) for width in widths)
        self.enter(self.stage)

    def enter(self, stage: str) -> None:
        check_choice("stage", stage, STAGES)
        super().enter(stage)
        self.teacher_head.requires_grad_(stage != "transfer")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        run_student, run_teacher = self._runs
        images = rotated(batch.input)
        turned = run_teacher(images)
        theirs = similarities(
            self.teacher_head(turned.taps[_TAP]), self.teacher_head(teacher.taps[_TAP])
        )
        original = torch.arange(len(batch.input), device=images.device).repeat(TURNS - 1)
        match = F.cross_entropy(theirs, original)
        if self.stage == "head":
            return match
        own = run_student(images)
        ours = similarities(
            self.student_head(own.taps[_TAP]), self.student_head(student.taps[_TAP])
        )
        loss = sskd(
            own.logits,
            turned.logits,
            ours,
            theirs.detach(),
            original,
            self.temperature,
            self.contrast_temperature,
            self.kept,
            self.contrast,
            self.transformed,
        )
        return loss if self.stage == "transfer" else loss + match


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
