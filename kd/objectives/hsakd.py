"""HSAKD: matches joint predictions of class and rotation at every stage, and the final classes.

    L = Σ_l T² ⟨KL(q_t,l^T ‖ q_s,l^T)⟩ + T² ⟨KL(p_t^T ‖ p_s^T)⟩ over images and their rotations

q_l are the 4K joint probabilities of class and rotation by an auxiliary classifier on stage l of a
net, p the class probabilities of the net itself; rotations are by 0, 90, 180 and 270 degrees.

Paper: Yang, An, Cai & Xu, "Hierarchical Self-supervised Augmented Knowledge Distillation", IJCAI
2021, https://arxiv.org/abs/2107.13715.

In the stage `heads` the teacher's auxiliary classifiers learn the joint label 4·y + rotation; they
are frozen in the stage `transfer`. Without stages (`""`) they learn beside the student.

Differences from the authors' code: the teacher's own layers are not trained together with its
auxiliary classifiers; these are a 3×3 convolution with batch norm, pooling and a linear layer, in
place of copies of the net's later stages; rotated images pass through the student in a batch of
their own, which has batch norm statistics of its own and updates the running ones a second time.

Reduction: sum over stages and classes, mean over images and rotations.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.kd import kd
from kd.objectives.maps import IMAGES, as_sequence, check_maps
from kd.objectives.precision import upcast
from kd.objectives.rotations import TURNS, both_runs, rotated
from kd.objectives.setting import Run, Setting
from kd.types import Batch, Outputs

STAGES = ("", "heads", "transfer")


def hsakd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_joint: Tensor | Sequence[Tensor],
    teacher_joint: Tensor | Sequence[Tensor],
    temperature: float = 3.0,
) -> Tensor:
    """Divergence of joint and of final predictions.

    Args:
        student_logits: of images and their rotations [4B, K].
        teacher_logits: of the same images [4B, K].
        student_joint: logits of class and rotation at each stage [4B, 4K].
        teacher_joint: the same of the teacher [4B, 4K].
        temperature: T > 0.

    Returns:
        Scalar ≥ 0: sum over stages and classes, mean over images.

    Example:
        >>> logits, joint = torch.zeros(4, 2), [torch.zeros(4, 8)]
        >>> hsakd(logits, logits, joint, joint)
        tensor(0.)

    Reference:
        Yang et al. 2021, https://arxiv.org/abs/2107.13715
    """
    pairs = zip(as_sequence(student_joint), as_sequence(teacher_joint), strict=True)
    stages = sum((kd(ours, theirs, temperature) for ours, theirs in pairs), start=torch.tensor(0.0))
    return stages + kd(student_logits, teacher_logits, temperature)


class RotationClasses(Objective):
    """HSAKD as a loss term, with an auxiliary classifier at every stage of each net; see `hsakd`.

    Stages: `heads` trains the teacher's classifiers alone; `transfer` freezes them and returns the
    loss of the student; `""` returns the sum.

    Args:
        taps: stages with maps [B, C, H, W], as pairs `student:teacher` where names differ.
        temperature: T > 0.

    Raises:
        ValueError: `temperature` is out of range, or there is no tap.
    """

    tasks = IMAGES
    family = "feature"
    needs_labels = True
    reads_logits = True
    runs_nets = True
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        temperature: float = 3.0,
    ) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.pair(taps)
        self._runs: tuple[Run, ...] = ()
        self.student_heads, self.teacher_heads = nn.ModuleDict(), nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self._runs = both_runs("hsakd", setting)
        check_maps("hsakd", self.student_taps, student, teacher)
        for tap in self.student_taps:
            for heads, outputs in ((self.student_heads, student), (self.teacher_heads, teacher)):
                heads[tap] = _head(outputs.taps[tap].shape[1], TURNS * setting.num_classes)
        self.enter(self.stage)

    def enter(self, stage: str) -> None:
        check_choice("stage", stage, STAGES)
        super().enter(stage)
        self.teacher_heads.requires_grad_(stage != "transfer")
        self.train(self.training)

    def train(self, mode: bool = True) -> "RotationClasses":
        """Set the mode; the teacher's frozen classifiers keep their statistics."""
        super().train(mode)
        if self.stage == "transfer":
            self.teacher_heads.eval()
        return self

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        run_student, run_teacher = self._runs
        images = rotated(batch.input)
        turned = _joined(teacher, self.aligned(run_teacher(images)))
        theirs = self._joint(self.teacher_heads, turned)
        turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(batch.target))
        label = TURNS * batch.target.repeat(TURNS) + turns
        learnt = torch.stack([F.cross_entropy(upcast(each), label) for each in theirs]).sum()
        if self.stage == "heads":
            return learnt
        own = _joined(student, run_student(images))
        ours = self._joint(self.student_heads, own)
        theirs = [each.detach() for each in theirs]
        loss = hsakd(own.logits, turned.logits, ours, theirs, self.temperature)
        return loss if self.stage == "transfer" else loss + learnt

    def _joint(self, heads: nn.ModuleDict, outputs: Outputs) -> list[Tensor]:
        """Logits of class and rotation [4B, 4K] at every stage."""
        return [heads[tap](outputs.taps[tap]) for tap in self.student_taps]


def _joined(images: Outputs, turned: Outputs) -> Outputs:
    """Outputs of the images followed by those of their rotations."""
    taps = {tap: torch.cat([value, turned.taps[tap]]) for tap, value in images.taps.items()}
    return Outputs(torch.cat([images.logits, turned.logits]), taps)


def _head(channels: int, classes: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(), *pooled)
