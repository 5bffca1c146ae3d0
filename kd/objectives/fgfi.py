"""Fine-grained feature imitation: matches feature maps near the labelled objects alone.

    L = Σ_l (1 / 2n_l) Σ_{b,i} m[b, i] Σ_c (r(F_s) − F_t)²[b, c, i],    n_l = Σ m

    m[b, i] = 1 if an anchor at position i overlaps an object by more than ψ times the largest
    overlap that any anchor has with that object

Paper: Wang, Yuan, Zhang & Feng, "Distilling Object Detectors with Fine-grained Feature Imitation",
CVPR 2019, https://arxiv.org/abs/1906.03609.

As in the paper, ψ = 0.5 and r is a 3×3 convolution of the student's map. Its anchors are those of
the detector; here they are set, so that detectors without anchors can be compared: squares and
rectangles of 1:2 and 2:1, with sides of some multiples of the position's stride. The paper sums
over channels; here the mean is taken, which makes the weight independent of their number.

Reduction: mean over channels and the masked positions of the batch, sum over levels.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.maps import check_maps, resample
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

_RATIOS = (0.5, 1.0, 2.0)  # height / width


def fgfi(student_map: Tensor, teacher_map: Tensor, mask: Tensor) -> Tensor:
    """Half the mean squared distance of two maps at the masked positions.

    Args:
        student_map: [B, C, H, W].
        teacher_map: [B, C, H, W].
        mask: bool [B, H, W]; see `near_objects`.

    Returns:
        Scalar ≥ 0: mean over channels and masked positions; 0 without any.

    Example:
        >>> from kd import losses
        >>> mask = torch.tensor([[[True, False]]])
        >>> losses.fgfi(torch.tensor([[[[2.0, 9.0]]]]), torch.zeros(1, 1, 1, 2), mask)
        tensor(2.)

    Reference:
        Wang et al. 2019, https://arxiv.org/abs/1906.03609
    """
    squares = (upcast(student_map) - upcast(teacher_map)).square().mean(1)
    return torch.where(mask, squares, 0.0).sum() / (2 * mask.sum().clamp(min=1))


def near_objects(
    target: Tensor, size: tuple[int, int], image_size: int, sides: Sequence[float], psi: float
) -> Tensor:
    """Positions of a map at which an anchor overlaps an object nearly as much as any does.

    Args:
        target: rows (class, x1, y1, x2, y2) [B, M, 5]; class −1 is padding.
        size: height and width of the map.
        image_size: height and width of the images in pixels.
        sides: of the square anchors, in strides of the map.
        psi: ψ, share of an object's largest overlap that is exceeded, in [0, 1).

    Returns:
        bool [B, H, W].

    Example:
        >>> target = torch.tensor([[[0.0, 0, 0, 16, 16]]])
        >>> near_objects(target, (4, 4), 32, sides=[2.0], psi=0.5)[0].int().tolist()
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    anchors = _anchors(size, image_size, sides).to(target)  # [A, H, W, 4]
    boxes = target[:, :, None, None, None, 1:].float()  # [B, M, 1, 1, 1, 4]
    low, high = boxes[..., :2].maximum(anchors[..., :2]), boxes[..., 2:].minimum(anchors[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = _area(boxes) + _area(anchors) - common
    overlap = common / union.clamp(min=1e-6)  # [B, M, A, H, W]
    real = (target[:, :, 0] >= 0)[:, :, None, None, None]
    best = overlap.amax((2, 3, 4), keepdim=True)
    return (real & (overlap > psi * best)).any(2).any(1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(-1)


def _anchors(size: tuple[int, int], image_size: int, sides: Sequence[float]) -> Tensor:
    """Anchors [A, H, W, 4] in pixels, centred on the cells of a map."""
    stride = torch.tensor([image_size / size[1], image_size / size[0]])
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    centres = (torch.stack([x, y], -1) + 0.5) * stride
    shapes = [(side / ratio**0.5, side * ratio**0.5) for side in sides for ratio in _RATIOS]
    half = torch.tensor(shapes)[:, None, None] * stride / 2
    return torch.cat([centres - half, centres + half], -1)


class FineGrainedImitation(Objective):
    """Fine-grained feature imitation as a loss term; see `fgfi`.

    Args:
        taps: canonical names of maps [B, C, H, W], or pairs `student:teacher`.
        sides: of the square anchors, in strides of the map.
        psi: ψ in [0, 1).

    Raises:
        ValueError: a setting is out of range, or there are no taps.
    """

    family = "feature"
    reads_targets = True
    tasks: ClassVar[tuple[str, ...]] = ("detection",)

    def __init__(
        self, taps: Sequence[str], sides: Sequence[float] = (2.0, 4.0), psi: float = 0.5
    ) -> None:
        super().__init__()
        self.pair(taps)
        if not sides or not all(side > 0 for side in sides):
            raise ValueError(f"sides must be numbers > 0, got {list(sides)!r}")
        if not 0 <= psi < 1:
            raise ValueError(f"psi must be in [0, 1), got {psi!r}")
        self.sides, self.psi = tuple(sides), psi
        self.adapters = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        check_maps("fgfi", self.student_taps, student, teacher)
        for tap in self.student_taps:
            narrow, wide = student.taps[tap].shape[1], teacher.taps[tap].shape[1]
            self.adapters[tap] = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        total = student.logits.new_zeros((), dtype=torch.float32)
        for tap in self.student_taps:
            theirs = teacher.taps[tap]
            size = theirs.shape[2], theirs.shape[3]
            mask = near_objects(batch.target, size, batch.input.shape[-1], self.sides, self.psi)
            total = total + fgfi(
                self.adapters[tap](resample(student.taps[tap], size)), theirs, mask
            )
        return total
