"""What every mode pairing_weights in which several nets learn at the same time."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from kd.distillers.base import Distiller
from kd.metrics import Evaluation
from kd.types import Batch, Outputs


class JointDistiller(Distiller):
    """A student and the members that learn beside it, each with figures of its own.

    Which epoch counts is decided by the student's validation accuracy, for all of them: the
    members' figures in result.json are those of the same weights.

    Args:
        members: who answers beside the student: name -> what it is, for result.json.
        **student: as `Distiller`.
    """

    teacher_kind = "peers"
    members_val_acc: Tensor  # of the last validation, so that a checkpoint knows its own

    def __init__(self, members: Mapping[str, str], **student: Any) -> None:
        super().__init__(**student)
        self.members = dict(members)
        self.val_members = nn.ModuleDict({m: Evaluation(self.num_classes) for m in members})
        self.test_members = nn.ModuleDict(
            {m: Evaluation(self.num_classes, closely=True) for m in members}
        )
        self.register_buffer("members_val_acc", torch.zeros(len(self.members)))

    @abstractmethod
    def predict_all(self, images: Tensor) -> dict[str, Tensor]:
        """The logits [B, K] of `student` and of every member, by name."""

    @abstractmethod
    def parameter_count(self, member: str) -> int:
        """With how many parameters a member answers."""

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch, self.val_figures, self.val_members)

    def test_step(self, batch: Batch, batch_index: int) -> None:
        self._evaluate(batch, self.test_figures, self.test_members)

    def _evaluate(self, batch: Batch, ours: Evaluation, members: nn.ModuleDict) -> None:
        answers = self.predict_all(batch.input)
        ours.update(answers["student"], batch.target)
        for member, evaluation in _by_name(members):
            evaluation.update(answers[member], batch.target)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        for n, (member, evaluation) in enumerate(_by_name(self.val_members)):
            figures = evaluation.compute()
            self.members_val_acc[n] = figures["acc"]
            self.log_dict({f"val/{member}/{k}": v for k, v in figures.items()})

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        for member, evaluation in _by_name(self.test_members):
            # named as in result.json, where a role comes first: teacher/test/acc
            figures = {f"{member}/test/{k}": v for k, v in evaluation.compute().items()}
            self.log_test(figures)

    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (member, what), acc in zip(self.members.items(), self.members_val_acc, strict=True):
            found[f"{member}/net"] = what
            found[f"{member}/val/acc"] = acc.item()
            found[f"{member}/params"] = self.parameter_count(member)
        return found


def _by_name(members: nn.ModuleDict) -> list[tuple[str, Evaluation]]:
    return cast(list[tuple[str, Evaluation]], list(members.items()))


def detached(outputs: Outputs) -> Outputs:
    """The outputs as a teacher's: no gradient goes back through it."""
    return Outputs(
        outputs.logits.detach(), {name: tap.detach() for name, tap in outputs.taps.items()}
    )
