"""The net that a run leaves: the student, or what its method makes of it."""

from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.taps import Taps


class ChangedStudent(nn.Module):
    """A student together with the objective that answers in its place (SimKD, Chen et al. 2022).

    Args:
        taps: of the student, with the taps that the objective reads.
        objective: one that `changes_student`; its modules and parameters belong to the net.
    """

    def __init__(self, taps: Taps, objective: Objective) -> None:
        super().__init__()
        self.changed_student, self.objective = taps.net, objective
        self._taps = taps

    def forward(self, images: Tensor) -> Tensor:
        return self.objective.answer(self._taps.outputs(images))
