"""Hard labels: L = −(1/B) Σ_i log p_s[i, y_i], the term that needs no teacher."""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.types import Batch, Outputs


class CrossEntropy(Objective):
    """Cross-entropy with the labels, mean over the batch.

    Args:
        label_smoothing: mass moved from the label to the uniform distribution, in [0, 1)
            (Szegedy et al. 2016).
    """

    family = "labels"
    needs_teacher = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = label_smoothing

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return F.cross_entropy(
            student.logits.float(), batch.target, label_smoothing=self.label_smoothing
        )
