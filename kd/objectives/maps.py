"""Feature maps of two nets: checked, paired, brought to one size and to one number of channels."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.types import Outputs


def resample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps [B, C, H, W] to `size`: area average downwards, bilinear upwards."""
    if tuple(maps.shape[2:]) == size:
        return maps
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def check_maps(method: str, taps: Sequence[str], student: Outputs, teacher: Outputs) -> None:
    """Refuse taps that are no maps [B, C, H, W] in one of the nets.

    Raises:
        UserError: names the tap and both shapes.
    """
    for tap in taps:
        shapes = [list(outputs.taps[tap].shape) for outputs in (student, teacher)]
        if any(len(shape) != 4 for shape in shapes):
            raise UserError(
                f"{method} needs maps [B, C, H, W] at tap {tap!r}; the student has {shapes[0]}, "
                f"the teacher {shapes[1]}"
            )


def paired_maps(
    method: str, student: Outputs, teacher: Outputs, student_tap: str, teacher_tap: str
) -> tuple[Tensor, Tensor]:
    """Return both nets' maps [B, C, H, W] at their taps.

    Raises:
        UserError: one of them is no map; names taps and shapes.
    """
    ours, theirs = student.taps[student_tap], teacher.taps[teacher_tap]
    if ours.dim() != 4 or theirs.dim() != 4:
        raise UserError(
            f"{method} needs maps [B, C, H, W]; student tap {student_tap!r} has "
            f"{list(ours.shape)}, teacher tap {teacher_tap!r} has {list(theirs.shape)}"
        )
    return ours, theirs


def smaller_size(first: Tensor, second: Tensor) -> tuple[int, int]:
    """The height and width that both maps [B, C, H, W] can be averaged down to."""
    return min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])


def as_map(tensor: Tensor) -> Tensor:
    """See a vector [B, D] as a map of one position [B, D, 1, 1]."""
    return tensor[:, :, None, None] if tensor.dim() == 2 else tensor


def connectors(
    method: str, taps: Sequence[str], student: Outputs, teacher: Outputs
) -> nn.ModuleDict:
    """Make a 1×1 convolution with batch norm for every tap, to the teacher's channels.

    Raises:
        UserError: a tap is neither a map [B, C, H, W] nor a vector [B, D]; names both shapes.
    """
    found = nn.ModuleDict()
    for tap in taps:
        ours, theirs = (outputs.taps[tap].shape for outputs in (student, teacher))
        if not {len(ours), len(theirs)} <= {2, 4}:
            raise UserError(
                f"{method} needs maps [B, C, H, W] or vectors [B, D] at tap {tap!r}; the student "
                f"has {list(ours)}, the teacher {list(theirs)}"
            )
        conv = nn.Conv2d(ours[1], theirs[1], 1, bias=False)
        found[tap] = nn.Sequential(conv, nn.BatchNorm2d(theirs[1]))
    return found
