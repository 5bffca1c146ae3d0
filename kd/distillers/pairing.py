"""Who learns from whom: what a mode makes of a batch."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from kd.types import Outputs


class Pairing(NamedTuple):
    """One learner, who teaches it, and how much that counts.

    student: the learner's outputs of the batch, with gradients.
    teacher: its teacher's outputs, without; None: it learns from labels alone.
    weight: of the loss; the terms of a pairing are weighted by it.
    student_head, teacher_head: the modules that turn the tap `embedding` into logits, where there
        are such; asked for when adapters are built.
    """

    student: Outputs
    teacher: Outputs | None = None
    weight: float = 1.0
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None


class Peer(NamedTuple):
    """A net that learns beside the student.

    name: of its architecture. net: itself. tap_paths: its taps, canonical name -> module path.
    """

    name: str
    net: nn.Module
    tap_paths: Mapping[str, str]


def key(pairing: str, term: str) -> str:
    """A term's name in logs and checkpoints: that of its pairing in front, where it has one."""
    return f"{pairing}/{term}" if pairing else term
