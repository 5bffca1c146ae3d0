"""The student's own detection loss: matches the labelled boxes, without a teacher.

Which places learn which object, and how classes and boxes are compared, is part of a detector, so
that the net itself computes the loss: see `kd.models.detector.Detector.loss` and the nets' modules.
In every method this term stands where classification has cross-entropy.

Reduction: as the net defines it; all divide by the number of places that learn an object.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


class DetectionLoss(Objective):
    """The detector's loss of its predictions and the labelled boxes, as a loss term."""

    family = "labels"
    needs_teacher = False
    reads_targets = True
    tasks: ClassVar[tuple[str, ...]] = ("detection",)

    def __init__(self) -> None:
        super().__init__()
        self._net: tuple[nn.Module, ...] = ()  # a tuple: the net is no submodule of the term

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        self._net = (detector_of(setting.student_net, "student"),)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        loss: Tensor = self._net[0].loss(student.logits, batch.target)  # type: ignore[operator]
        return loss


def detector_of(net: nn.Module | None, role: str) -> Any:
    """Return a net that can decode its predictions.

    Args:
        net: of a setting; None: an ensemble.
        role: student or teacher, for the message.

    Raises:
        UserError: it is no detector.
    """
    if net is None or not hasattr(net, "decode"):
        what = "an ensemble" if net is None else type(net).__name__
        raise UserError(
            f"the {role} is {what}; detection needs a single net of kd.models, or one of your own "
            "that implements kd.models.detector.Detector"
        )
    return net
