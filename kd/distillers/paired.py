"""The student of a mode, its objectives by pairing, and the net that they leave at inference."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

from torch import Tensor, nn

from kd.distillers.deployed import ChangedStudent
from kd.distillers.evaluation import EvaluatedModule
from kd.distillers.pairing import Pairing, objectives_by_term, outputs_read, term_name
from kd.objectives.base import Objective
from kd.objectives.setting import Setting
from kd.taps import Taps
from kd.tasks.base import Task
from kd.types import Batch


class PairedModule(EvaluatedModule, ABC):
    """A student with the objectives of every pairing of student and teacher outputs.

    Args:
        student, tap_paths, objectives, num_classes, task, pairings, labels_only, reads: as
            `Distiller`.

    Attributes:
        teacher_kind: source of the teacher outputs: a pretrained teacher, peers trained jointly
            with the student, or the student itself.
        available_teacher_taps: teacher taps that objectives may read; None: all taps of its net.
        available_student_taps: student taps that objectives may read; None: all taps of its net.
        merges: whether `merge` may change the student's parameters.
    """

    teacher_kind: ClassVar[Literal["pretrained", "peers", "itself"]] = "pretrained"
    available_teacher_taps: ClassVar[tuple[str, ...] | None] = None
    available_student_taps: ClassVar[tuple[str, ...] | None] = None
    merges: bool = True

    def __init__(
        self,
        student: nn.Module,
        tap_paths: Mapping[str, str],
        objectives: Mapping[str, Objective],
        num_classes: int,
        task: Task | None,
        pairings: Sequence[str],
        labels_only: Sequence[str],
        reads: Sequence[str],
    ) -> None:
        super().__init__(num_classes, task)
        self.student = student
        wanted = [tap for objective in objectives.values() for tap in objective.student_taps]
        if self.teacher_kind == "peers":  # the student is a teacher of its peers
            wanted += [tap for objective in objectives.values() for tap in objective.teacher_taps]
        self.student_taps = Taps(student, tap_paths, [*wanted, *reads])
        self.teacher_terms = {name for name, term in objectives.items() if term.needs_teacher}
        self.objectives = nn.ModuleDict(objectives_by_term(objectives, pairings, labels_only))
        self.pad_index: int | None = None  # token id that fills texts; set with the data

    @abstractmethod
    def pairings(self, batch: Batch, with_teacher: bool) -> dict[str, Pairing]:
        """Run the nets on a batch and return the step's pairings by name.

        Args:
            batch: from the training loader.
            with_teacher: whether a term of nonzero weight reads a teacher. If not, no teacher is
                run, and the pairings have none.
        """

    def rows(self, batch: Batch) -> Batch:
        """Return the batch whose rows are those of the pairings' outputs."""
        return batch

    @abstractmethod
    def example_pairings(self, images: Tensor) -> dict[str, Pairing]:
        """Return the pairings of a small batch [b, C, H, W] in eval mode, with all teachers.

        Leaves parameters, buffers and training flags unchanged.
        """

    def build_adapters(self, images: Tensor, targets: Tensor) -> dict[str, Pairing]:
        """Create the objectives' adapters from real shapes, before the optimizer is configured.

        Args:
            images: a small normalised batch [b, C, H, W], or token ids [b, L].
            targets: labels [N] of the training pool.

        Returns:
            The pairings of `images`.
        """
        pairings = self.example_pairings(images)
        size = (images.shape[2], images.shape[3]) if images.dim() == 4 else None
        for name, pairing in pairings.items():
            heads = pairing.student_head, pairing.teacher_head
            own = self.student if pairing.student_net is None else pairing.student_net
            nets = own, pairing.teacher_net
            runs = pairing.run_student, pairing.run_teacher
            setting = Setting(self.num_classes, targets, *heads, size, self.pad_index, *nets, *runs)
            for objective in self.terms_of(name).values():
                objective.build(*outputs_read(objective, pairing, images), setting)
        return pairings

    @property
    def terms(self) -> dict[str, Objective]:
        """The objectives of all pairings, by the names used in logs and checkpoints."""
        return cast(dict[str, Objective], dict(self.objectives.items()))

    def terms_of(self, pairing: str) -> dict[str, Objective]:
        """Return the objectives of one pairing, by their names in the method."""
        start = term_name(pairing, "")
        return {
            name.removeprefix(start): term
            for name, term in self.terms.items()
            if name.startswith(start) and "/" not in name.removeprefix(start)
        }

    def compile_nets(self, mode: str) -> None:
        """Compile the nets that run at every step, with their taps; call after `build_adapters`."""
        self.student.compile(mode=mode)

    def deployed(self) -> nn.Module:
        """Return the net that is tested and saved: images [B, C, H, W] -> logits [B, K]."""
        changing = [term for term in self.terms.values() if term.changes_student]
        return ChangedStudent(self.student_taps, changing[0]) if changing else self.student

    def merge(self, images: Tensor) -> None:
        """Let an objective that changes the student move its part into it; see `Objective.merge`.

        With several pairings each has such a part, and one is deployed: it stays as it is.

        Args:
            images: a small normalised batch on the CPU, such as noise.
        """
        changing = [term for term in self.terms.values() if term.changes_student]
        if self.merges and len(changing) == 1:
            device = next(self.student.parameters()).device
            changing[0].merge(self.student_taps.probe(images.to(device)))

    def predict(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.deployed()(images))

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return the state dicts that a run saves, by file name without suffix."""
        return {"student": self.deployed().state_dict()}
