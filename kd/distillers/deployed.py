"""The net that a run saves if its method changes the student at inference (SimKD)."""

from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.token_maps import with_maps
from kd.taps import Taps


class ChangedStudent(nn.Module):
    """A student whose logits are computed by an objective.

    SimKD (Chen et al. 2022, https://arxiv.org/abs/2203.14001) predicts with the teacher's
    classifier on a projection of the student's features. Saved weights are `changed_student.*` and
    `objective.*`.

    Args:
        taps: of the student; records the taps that the objective reads.
        objective: one with `changes_student`; its modules and parameters belong to this net.
    """

    def __init__(self, taps: Taps, objective: Objective) -> None:
        super().__init__()
        self.changed_student, self.objective = taps.net, objective
        self._taps = taps

    def forward(self, images: Tensor) -> Tensor:
        outputs = with_maps(self.objective, self._taps.outputs(images), images)
        return self.objective.inference_logits(outputs)
