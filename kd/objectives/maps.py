"""Feature maps of two nets: checks of shape, resampling, and 1×1 connectors."""

import logging
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.types import Outputs

log = logging.getLogger(__name__)
IMAGES = ("image_classification",)  # tasks whose nets have maps
IMAGES_AND_BOXES = ("image_classification", "detection")


def as_sequence(maps: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the maps of several taps as they are, and a single tensor as a sequence of one."""
    return [maps] if isinstance(maps, Tensor) else maps


def resample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample maps to another resolution: area average downwards, bilinear upwards.

    Args:
        maps: [B, C, H, W].
        size: height and width of the result.

    Returns:
        [B, C, *size]; `maps` itself if it has that size.

    Example:
        >>> import torch
        >>> resample(torch.arange(4.0).view(1, 1, 2, 2), (1, 1)).item()
        1.5
    """
    if tuple(maps.shape[2:]) == size:
        return maps
    if maps.shape[2] >= size[0] and maps.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def check_maps(method: str, taps: Sequence[str], student: Outputs, teacher: Outputs) -> None:
    """Check that both nets have maps [B, C, H, W] at every tap.

    Raises:
        UserError: one has not; the message has the tap and both shapes.
    """
    for tap in taps:
        shapes = [list(outputs.taps[tap].shape) for outputs in (student, teacher)]
        if any(len(shape) != 4 for shape in shapes):
            raise UserError(
                f"{method} needs maps [B, C, H, W] at tap {tap!r}; the student has {shapes[0]}, "
                f"the teacher {shapes[1]}; {_stages(shapes)}"
            )


def drop_single_positions(
    method: str, objective: Objective, teacher: Outputs, student: Outputs | None = None
) -> None:
    """Drop pairs of maps of which one has a single position: normalised, it is a constant.

    Each is named in the log. If no other pair is left, all stay. Without the student's outputs, in
    `Objective.select_taps`, the teacher's maps alone decide, and `build` reports that none is left.
    """
    nets = [teacher] if student is None else [student, teacher]
    taps = objective.student_taps
    single = [tap for tap in taps if has_single_position(tap, *nets)]
    kept = [tap for tap in taps if tap not in single]
    if not kept and student is None:
        return
    advice = "the pair is left out" if kept else "the method has no gradient; name an earlier stage"
    for tap in single:
        shapes = [list(outputs.taps[tap].shape[1:]) for outputs in nets]
        maps = "the maps {} and {} have one in common"
        if student is None:
            maps = "the teacher's map {} has one"
        log.warning(
            "%s compares positions, and at the student's tap %s %s: %s",
            *(method, tap, maps.format(*shapes), advice),
        )
    if kept:
        objective.keep_pairs(kept)


def has_single_position(tap: str, *nets: Outputs) -> bool:
    """Whether the map [B, C, H, W] of one of the nets has a single position."""
    shapes = [outputs.taps[tap].shape for outputs in nets]
    return any(len(shape) == 4 and shape[2] * shape[3] == 1 for shape in shapes)


def paired_maps(
    method: str, student: Outputs, teacher: Outputs, student_tap: str, teacher_tap: str
) -> tuple[Tensor, Tensor]:
    """Return the maps [B, C, H, W] of both nets at their taps.

    Raises:
        UserError: one tensor is not a map; the message has taps and shapes.
    """
    student_map, teacher_map = student.taps[student_tap], teacher.taps[teacher_tap]
    if student_map.dim() != 4 or teacher_map.dim() != 4:
        shapes = list(student_map.shape), list(teacher_map.shape)
        taps = dict.fromkeys([repr(student_tap), repr(teacher_tap)])
        raise UserError(
            f"{method} needs maps [B, C, H, W] at tap {' and '.join(taps)}; the student has "
            f"{shapes[0]}, the teacher {shapes[1]}; {_stages(shapes)}"
        )
    return student_map, teacher_map


def _stages(shapes: Sequence[Sequence[int]]) -> str:
    """What to choose in place of tensors of these shapes, which are no maps."""
    if any(len(shape) == 3 for shape in shapes):
        return "nets on patches have tokens [B, N, D]: choose nets of convolutions, such as resnet8"
    return "name stages with maps, such as stage1"


def smaller_size(first: Tensor, second: Tensor) -> tuple[int, int]:
    """Largest height and width to which both maps [B, C, H, W] can be averaged down."""
    return min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])


def as_map(tensor: Tensor) -> Tensor:
    """Return maps as they are, and vectors [B, D] as maps of one position [B, D, 1, 1]."""
    return tensor[:, :, None, None] if tensor.dim() == 2 else tensor


def connectors(
    method: str, taps: Sequence[str], student: Outputs, teacher: Outputs
) -> nn.ModuleDict:
    """Create a 1×1 convolution with batch norm for every tap, to the teacher's channels.

    Raises:
        UserError: a tap is neither a map [B, C, H, W] nor a vector [B, D] in one of the nets; the
            message has both shapes.
    """
    layers = nn.ModuleDict()
    for tap in taps:
        student_shape, teacher_shape = (outputs.taps[tap].shape for outputs in (student, teacher))
        if not {len(student_shape), len(teacher_shape)} <= {2, 4}:
            raise UserError(
                f"{method} needs maps [B, C, H, W] or vectors [B, D] at tap {tap!r}; the student "
                f"has {list(student_shape)}, the teacher {list(teacher_shape)}"
            )
        conv = nn.Conv2d(student_shape[1], teacher_shape[1], 1, bias=False)
        layers[tap] = nn.Sequential(conv, nn.BatchNorm2d(teacher_shape[1]))
    return layers
