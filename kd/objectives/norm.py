"""N-to-one representation matching (NORM): N projections of the student's map match the teacher's.

    L = CE(z, y) + β·Σ_n ⟨(E(F_s)_n − F_t)²⟩,    z = h(f_s + average over positions of C(E(F_s)))

E expands the student's last map to N·C_t channels and C contracts them to the width of the
student's embedding f_s; both are trained 1×1 convolutions with batch norm. E(F_s)_n are N segments
of C_t channels, each of which is to be the teacher's whole map. h is the student's head.

Paper: Liu, Li, Li & Yao, "NORM: Knowledge Distillation via N-to-One Representation Matching",
ICLR 2023, https://arxiv.org/abs/2305.13803.

The deployed net predicts z. E, C and h are linear in evaluation mode and without anything between,
so that they are one linear layer of f_s where that is the average of F_s: after training they are
merged into h, as in the paper, and the student has no layer more. Where another layer lies between
map and embedding, or h is no plain linear layer, E and C stay part of the deployed net
(`objective.*`).

The labels' loss is part of the term because it reads z, and the student's own logits do not. As in
the authors' code for CIFAR-100, the term has no soft targets. The larger map is max-pooled to the
size of the other: that code does so with the teacher's, and the code for ImageNet with the
student's. The former divides logits by their deviation before the losses and has a smaller β in the
first 20 and the last 60 of 240 epochs; neither is done here.

Reduction: ⟨·⟩ is the mean over the batch, channels and positions; sum over segments.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.ce import ce
from kd.objectives.maps import IMAGES, paired_maps, smaller_size
from kd.objectives.merged_head import is_average, is_plain, merged
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def norm(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared distances of the segments of a map and the teacher's map, summed.

    Args:
        student_map: [B, N·C, H, W], already expanded.
        teacher_map: [B, C, H, W].

    Returns:
        Scalar ≥ 0: mean over the batch, channels and positions, sum over segments.

    Example:
        Two segments, at distances 1 and 2:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.zeros(1, 1, 2, 2)
        >>> losses.norm(torch.cat([teacher + 1, teacher + 2], 1), teacher).item()
        5.0

    Reference:
        Liu et al. 2023, https://arxiv.org/abs/2305.13803
    """
    segments = upcast(student_map).unflatten(1, (-1, teacher_map.shape[1]))
    squares = (segments - upcast(teacher_map)[:, None]).square()
    return squares.mean((0, 2, 3, 4)).sum()


def check_weight(beta: float) -> float:
    """Return β as a float.

    Raises:
        ValueError: it is negative.
    """
    if not beta >= 0:
        raise ValueError(f"beta must be ≥ 0, got {beta!r}")
    return float(beta)


class NToOne(Objective):
    """NORM as a loss term, with the labels' loss; predicts with the expanded map.

    Args:
        tap: canonical name of the last maps [B, C, H, W] of both nets, or a pair `student:teacher`.
        segments: N ≥ 1.
        beta: β ≥ 0, weight of the maps' distance.

    Raises:
        ValueError: a setting is out of range.
    """

    family = "feature"
    tasks = IMAGES
    reads_targets = True
    # Modes of several nets deploy and test the others without E and C.
    needs_pretrained = "replaces the head of one student by that of a pretrained teacher's map"
    scheduled: ClassVar = {"beta": check_weight}

    def __init__(self, tap: str = "stage3", segments: int = 8, beta: float = 1.0) -> None:
        super().__init__()
        if segments < 1:
            raise ValueError(f"segments must be a whole number ≥ 1, got {segments!r}")
        self.pair((tap,))
        (self.tap,), (self.teacher_tap,) = self.student_taps, self.teacher_taps
        self.paired = False  # the student's embedding has no partner
        self.student_taps = (self.tap, "embedding")
        self.segments, self.beta = segments, check_weight(beta)
        self.expand: nn.Module = nn.Identity()
        self.contract: nn.Module = nn.Identity()
        self._head: tuple[nn.Module, ...] = ()  # a tuple: the head is the student's
        self.merged = False

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = paired_maps("norm", student, teacher, self.tap, self.teacher_tap)
        embedding = student.taps["embedding"]
        if setting.student_head is None or embedding.dim() != 2:
            raise UserError(
                "norm adds to the input of the student's head, and its tap 'embedding' "
                f"{list(embedding.shape)} is not the vector [B, D] that a module has as input; set "
                "it, such as +student.taps.embedding=fc:in"
            )
        wide = self.segments * theirs.shape[1]
        self.expand = _conv_bn(ours.shape[1], wide)
        self.contract = _conv_bn(wide, embedding.shape[1])
        self._head = (setting.student_head,)

    def expanded(self, student: Outputs) -> Tensor:
        """E(F_s) [B, N·C_t, H, W]."""
        maps: Tensor = self.expand(student.taps[self.tap])
        return maps

    def logits(self, student: Outputs, expanded: Tensor) -> Tensor:
        """Logits z [B, K] of an expanded map, in float32."""
        added = self.contract(expanded).float().mean((2, 3))
        with torch.autocast(added.device.type, enabled=False):
            # Not by a call, whose hooks would record the tap 'embedding' again.
            logits: Tensor = self._head[0].forward(student.taps["embedding"].float() + added)
        return logits

    @property
    def changes_student(self) -> bool:
        return not self.merged

    def inference_logits(self, student: Outputs) -> Tensor:
        return self.logits(student, self.expanded(student))

    @torch.no_grad()
    def merge(self, student: Outputs) -> None:
        (head,) = self._head
        averaged = is_average(student.taps["embedding"], student.taps[self.tap])
        if averaged and is_plain(head):
            weight, bias = merged(head, self.expand, self.contract)
            head.weight.copy_(weight)
            head.bias.copy_(bias)
            self.merged = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        expanded, theirs = self.expanded(student), teacher.taps[self.teacher_tap]
        labels = ce(self.logits(student, expanded), batch.target)
        size = smaller_size(expanded, theirs)
        ours, theirs = (F.adaptive_max_pool2d(maps, size) for maps in (expanded, theirs))
        return labels + self.beta * norm(ours, theirs)


def _conv_bn(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
    )
