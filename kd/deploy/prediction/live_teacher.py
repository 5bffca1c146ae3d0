"""Logits of a teacher for images that are of no data set."""

import torch
from torch import Tensor

from kd.teachers.base import Teacher
from kd.teachers.cached import CachedTeacher
from kd.teachers.ensemble import EnsembleTeacher
from kd.types import Batch


@torch.no_grad()
def live_logits(teacher: Teacher, images: Tensor) -> Tensor:
    """Run a teacher's nets; cached outputs, which are of training images, are not used.

    Args:
        teacher: of a run.
        images: the student's normalised images [B, C, H, W].

    Returns:
        Logits [B, K] on the CPU.
    """
    if isinstance(teacher, EnsembleTeacher):
        each = [live_logits(member, images) for member in teacher.members.values()]
        return teacher.combined(torch.stack(each).to(teacher.device)).cpu()
    live = teacher.teacher if isinstance(teacher, CachedTeacher) else teacher
    rows = torch.zeros(len(images), dtype=torch.int64)
    batch = Batch(images, rows, rows, rows, epoch=0).to(live.device)
    return live.outputs(batch).logits.float().cpu()
