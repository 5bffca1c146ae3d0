"""Distillation of detectors: matches classes and boxes where the teacher is confident.

    L = (1 / n) Σ_i [ T² Σ_k KL(σ(t_ik / T) ‖ σ(s_ik / T)) + λ Σ_j smoothL1((b_s − b_t)_ij / S) ]

over the n places i at which the best class score of the teacher exceeds a threshold; t and s are
class logits, σ their probabilities (a class is there or not, KL of two outcomes), b boxes in images
of S pixels.

Papers: Chen, Choi, Yu, Han & Chandraker, "Learning Efficient Object Detection Models with Knowledge
Distillation", NeurIPS 2017, https://papers.nips.cc/paper/6676, for soft classes and the teacher's
boxes as targets. Theirs are two-stage detectors whose heads see the same regions. One-stage
detectors with the same grid compare place by place. With another grid each place of the student is
given, of the teacher's predictions at that position (one of each of its levels and anchors), the
most confident whose object the place would learn. The detections of a two-stage teacher are
assigned in the same way, each to all places that would learn its box.

Reduction: sum over classes and coordinates, mean over the confident places of the batch.
"""

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_temperature
from kd.objectives.detection_loss import detector_of
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


class Predictions(NamedTuple):
    """Class logits [B, N, K] and boxes [B, N, 4] in pixels."""

    logits: Tensor
    boxes: Tensor


def det_kd(
    student: Predictions,
    teacher: Predictions,
    confident: Tensor,
    image_size: int,
    temperature: float = 2.0,
    box_weight: float = 50.0,
    box_beta: float = 0.1,
) -> Tensor:
    """KL of class probabilities and smooth L1 of boxes at the confident places.

    Args:
        student: at N places.
        teacher: at the same places.
        confident: which places count, bool [B, N].
        image_size: S, which boxes are divided by.
        temperature: T > 0 of the class logits.
        box_weight: λ ≥ 0.
        box_beta: difference of divided coordinates below which smooth L1 is quadratic.

    Returns:
        Scalar ≥ 0: sum over classes and coordinates, mean over confident places; 0 without any.

    Example:
        >>> logits, boxes = torch.zeros(1, 1, 2), torch.zeros(1, 1, 4)
        >>> teacher, here = Predictions(logits, boxes), torch.tensor([[True]])
        >>> moved = Predictions(logits, boxes + torch.tensor([0.0, 0.0, 0.0, 8.0]))
        >>> det_kd(moved, teacher, here, image_size=80)  # 50 · 0.1² / (2 · 0.1)
        tensor(2.5000)

    Reference:
        Chen et al. 2017, https://papers.nips.cc/paper/6676
    """
    ours, theirs = (upcast(each.logits) / temperature for each in (student, teacher))
    # In log space, because 1 − σ underflows
    present = theirs.sigmoid() * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    absent = (-theirs).sigmoid() * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
    classes = (present + absent).sum(-1) * temperature**2
    own, other = (upcast(each.boxes) / image_size for each in (student, teacher))
    boxes = F.smooth_l1_loss(own, other, reduction="none", beta=box_beta).sum(-1)
    places = torch.where(confident, classes + box_weight * boxes, 0.0)
    return places.sum() / confident.sum().clamp(min=1)


def candidates(student_grid: Tensor, teacher_grid: Tensor) -> Tensor:
    """The teacher's places nearest to each place of the student, one of each level and anchor.

    Args:
        student_grid: rows (x, y, stride, number at its place) [N, 4].
        teacher_grid: [M, 4].

    Returns:
        Positions in the teacher's grid [N, G], int64, for G pairs of stride and number.

    Example:
        >>> fine = torch.tensor([[0.0, 0, 8, 0], [8, 0, 8, 0], [16, 0, 8, 0]])
        >>> coarse = torch.tensor([[0.0, 0, 16, 0], [16, 0, 16, 0]])
        >>> candidates(fine[[0, 2]], torch.cat([fine, coarse])).tolist()
        [[0, 3], [2, 4]]
    """
    groups = teacher_grid[:, 2:].unique(dim=0)
    nearest = []
    for group in groups:
        rows = (teacher_grid[:, 2:] == group).all(1).nonzero()[:, 0]
        distance = torch.cdist(student_grid[:, :2], teacher_grid[rows, :2])
        nearest.append(rows[distance.argmin(1)])
    return torch.stack(nearest, dim=1)


class DetectionKD(Objective):
    """Distillation of detectors as a loss term; see `det_kd`.

    Args:
        temperature: T > 0 of the class logits.
        threshold: smallest score of the teacher at which a place counts, in [0, 1].
        box_weight: weight of the boxes, ≥ 0.
        box_beta: see `det_kd`, > 0.

    Raises:
        ValueError: a setting is out of range.
    """

    family = "response"
    tasks: ClassVar[tuple[str, ...]] = ("detection",)
    needs_places = True
    scheduled: ClassVar = {"temperature": check_temperature}
    table: Tensor | None

    def __init__(
        self,
        temperature: float = 2.0,
        threshold: float = 0.5,
        box_weight: float = 50.0,
        box_beta: float = 0.1,
    ) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold!r}")
        if not box_weight >= 0:
            raise ValueError(f"box_weight must be ≥ 0, got {box_weight!r}")
        if not box_beta > 0:
            raise ValueError(f"box_beta must be > 0, got {box_beta!r}")
        self.threshold, self.box_weight, self.box_beta = threshold, box_weight, box_beta
        self._nets: tuple[Any, ...] = ()  # a tuple: the nets are no submodules of the term
        self.same_grid = False
        self.register_buffer("table", None, persistent=False)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours = detector_of(setting.student_net, "student")
        theirs = detector_of(setting.teacher_net, "teacher")
        if ours.grid is None:
            raise UserError(
                f"det_kd compares places, and the student, {type(ours).__name__}, has none: its "
                "detections come from regions of its own; take a one-stage student, or method=cwd"
            )
        self._nets = ours, theirs
        grid = ours.grid.cpu()
        if theirs.grid is None:
            self.table = torch.arange(teacher.logits.shape[1]).expand(len(grid), -1)
        else:
            self.same_grid = torch.equal(grid, theirs.grid.cpu())
            self.table = candidates(grid, theirs.grid.cpu())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours = self._nets[0]
        boxes, logits = ours.decode(student.logits)
        found, confident = self._assigned(teacher.logits.float())
        settings = self.temperature, self.box_weight, self.box_beta
        return det_kd(Predictions(logits, boxes), found, confident, ours.image_size, *settings)

    def _assigned(self, predictions: Tensor) -> tuple[Predictions, Tensor]:
        """The teacher's prediction for each place [B, N] of the student, and those that count."""
        ours, theirs = self._nets
        boxes, logits = theirs.decode(predictions)
        scores = theirs.scores(predictions).amax(-1)  # [B, M]
        if self.same_grid:
            return Predictions(logits, boxes), scores > self.threshold
        assert self.table is not None
        fits = ours.accepts(boxes[:, self.table.T])  # [B, G, N]
        best, chosen = (scores[:, self.table.T] * fits).max(1)
        places = self.table.T.gather(0, chosen)[..., None]  # [B, N, 1]
        found = (v.gather(1, places.expand(-1, -1, v.shape[2])) for v in (logits, boxes))
        return Predictions(*found), best > self.threshold
