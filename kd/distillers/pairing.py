"""Who learns from whom: what a mode makes of a batch."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from kd.types import Trace


class Lesson(NamedTuple):
    """One learner, who teaches it, and how much that counts.

    student: the learner's trace of the batch, with gradients.
    teacher: its teacher's trace, without; None: it learns from labels alone.
    share: of the loss; the terms of a lesson are weighted by it.
    student_head, teacher_head: the modules that turn the tap `embedding` into logits, where there
        are such; asked for when adapters are built.
    """

    student: Trace
    teacher: Trace | None = None
    share: float = 1.0
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None


class Peer(NamedTuple):
    """A net that learns beside the student.

    name: of its architecture. net: itself. places: its taps, canonical name -> module path.
    """

    name: str
    net: nn.Module
    places: Mapping[str, str]


def key(lesson: str, term: str) -> str:
    """A term's name in logs and checkpoints: that of its lesson in front, where it has one."""
    return f"{lesson}/{term}" if lesson else term
