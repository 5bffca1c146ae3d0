"""Student-teacher pairings of a training step, and the names of their loss terms."""

import copy
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.setting import Run
from kd.objectives.token_maps import with_maps
from kd.types import Outputs

NO_OUTPUTS = Outputs(torch.empty(0), {})  # teacher argument of objectives that read no teacher


class Pairing(NamedTuple):
    """Outputs of one student and its teacher on the same batch.

    student: outputs of the net that is trained, with gradients.
    teacher: outputs of its teacher, without gradients unless parts of the teacher train along;
        None: it is trained on labels alone.
    weight: factor of every loss term of the pairing.
    student_net, teacher_net: the nets themselves; None: the student of the mode, and no single net.
    run_student, run_teacher: run the nets on other images; see `Setting`.
    student_head, teacher_head: the modules that map the tap `embedding` to logits, where the nets
        have one. Only objectives that build adapters read them.
    """

    student: Outputs
    teacher: Outputs | None = None
    weight: float = 1.0
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None
    student_net: nn.Module | None = None
    teacher_net: nn.Module | None = None
    run_student: Run | None = None
    run_teacher: Run | None = None


class Peer(NamedTuple):
    """A net that is trained jointly with the student.

    name: its architecture, as in `conf/model`.
    net: the module; its `forward` maps images [B, C, H, W] to logits [B, K].
    tap_paths: its taps, canonical name -> module path.
    """

    name: str
    net: nn.Module
    tap_paths: Mapping[str, str]


def term_name(pairing: str, objective: str) -> str:
    """Name of a loss term in logs and checkpoints.

    Example:
        >>> term_name("peer1", "soft"), term_name("", "soft")
        ('peer1/soft', 'soft')
    """
    return f"{pairing}/{objective}" if pairing else objective


def objectives_by_term(
    objectives: Mapping[str, Objective], with_teacher: Sequence[str], labels_only: Sequence[str]
) -> dict[str, Objective]:
    """Return the terms of all pairings: the first has the given objectives, the others copies."""
    found: dict[str, Objective] = {}
    for pairing in (*with_teacher, *labels_only):
        teacher = pairing in with_teacher
        used = {k: o for k, o in objectives.items() if teacher or not o.needs_teacher}
        # Copies, because the pairings' features differ in shape and in meaning.
        own = used if pairing == with_teacher[0] else copy.deepcopy(used)
        found |= {term_name(pairing, name): objective for name, objective in own.items()}
    return found


def outputs_read(objective: Objective, pairing: Pairing, inputs: Tensor) -> tuple[Outputs, Outputs]:
    """Return the outputs of student and teacher for a batch as an objective reads them."""
    teacher = objective.aligned(pairing.teacher or NO_OUTPUTS)
    return with_maps(objective, pairing.student, inputs), with_maps(objective, teacher, inputs)
