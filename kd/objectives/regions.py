"""Regions of a net's last map: their logits, and the distillation loss of each."""

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.dkd import decoupled_kl
from kd.objectives.kd import kl_per_sample
from kd.objectives.nkd import other_terms, target_terms
from kd.objectives.precision import upcast

log = logging.getLogger(__name__)

BASES = ("kd", "dkd", "nkd")


def region_logits(
    logits: Tensor, maps: Tensor, weight: Tensor, bias: Tensor | None, scales: Sequence[int]
) -> Tensor:
    """Logits [B, N, K] of the whole image and of the cells of grids, row by row.

    Args:
        logits: the net's own [B, K], for the scale 1.
        maps: last maps [B, C, H, W].
        weight: of the classifier [K, C].
        bias: of the classifier [K]; None: it has none.
        scales: sides of the grids; 1 stands first.

    Example:
        A classifier that passes its input on shows the averages of the four quarters:

        >>> import torch
        >>> maps, one = torch.arange(16.0).view(1, 1, 4, 4), torch.ones(1, 1)
        >>> region_logits(maps.mean((2, 3)), maps, one, None, [1, 2]).flatten().tolist()
        [7.5, 2.5, 4.5, 10.5, 12.5]
    """
    with torch.autocast(maps.device.type, enabled=False):
        # Averages of cells and the classifier are linear: their order does not matter.
        cells = [F.adaptive_avg_pool2d(upcast(maps), side).flatten(2) for side in scales[1:]]
        given = None if bias is None else upcast(bias)
        parts = [F.linear(each.transpose(1, 2), upcast(weight), given) for each in cells]
        return torch.cat([upcast(logits)[:, None], *parts], 1)


def region_terms(
    base: str, student: Tensor, teacher: Tensor, target: Tensor, temperature: float, others: float
) -> Tensor:
    """The loss of every row of logits [R, K], one of `BASES`: [R].

    Args:
        base: `kd`, `dkd` or `nkd`.
        student: logits [R, K].
        teacher: logits [R, K].
        target: class indices [R], int64.
        temperature: T > 0, for both nets.
        others: weight of the classes other than the label, for `dkd` and `nkd`.
    """
    if base == "kd":
        log_student, log_teacher = ((z / temperature).log_softmax(1) for z in (student, teacher))
        return temperature**2 * kl_per_sample(log_student, log_teacher)
    if base == "dkd":
        label, rest = decoupled_kl(student, teacher, target, temperature)
        return label + others * rest
    rest = temperature**2 * other_terms(student, teacher, target, temperature)
    return target_terms(student, teacher, target) + others * rest


def common_scales(scales: Sequence[int], student: Tensor, teacher: Tensor) -> list[int]:
    """Sides of grids with at most one cell a position of the smaller of two maps [B, C, H, W].

    Those that are left out are named in the log.
    """
    side = min(*student.shape[2:], *teacher.shape[2:])
    kept = [scale for scale in scales if scale <= side]
    if len(kept) < len(scales):
        log.warning(
            "sdd leaves out the scales %s: the last maps %s of the student and %s of the teacher "
            "have %d positions a side in common; use larger images or set method.scales=%s",
            *([s for s in scales if s > side], list(student.shape[1:]), list(teacher.shape[1:])),
            *(side, str(kept).replace(" ", "")),
        )
    return kept
