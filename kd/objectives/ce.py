"""Cross-entropy: matches the labels, without a teacher.

    L = −(1/B) Σ_i Σ_k q_i[k] · log p_s[i, k],    q = (1 − ε)·onehot(y) + ε/K

Label smoothing, ε > 0: Szegedy, Vanhoucke, Ioffe, Shlens & Wojna, "Rethinking the Inception
Architecture for Computer Vision", CVPR 2016, https://arxiv.org/abs/1512.00567.

Reduction: sum over classes, mean over the batch.
"""

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import Objective
from kd.objectives.precision import upcast
from kd.types import Batch, Outputs


def ce(student_logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels.

    Args:
        student_logits: [B, K].
        target: class indices [B], int64, or class probabilities [B, K].
        label_smoothing: ε in [0, 1), probability moved from the label to the uniform distribution.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> losses.ce(torch.zeros(1, 2), torch.tensor([0]))  # log 2
        tensor(0.6931)

    Reference:
        Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
    """
    return F.cross_entropy(upcast(student_logits), target, label_smoothing=label_smoothing)


class CrossEntropy(Objective):
    """Cross-entropy with the labels as a loss term.

    Args:
        label_smoothing: ε in [0, 1), probability moved from the label to the uniform distribution.

    Raises:
        ValueError: `label_smoothing` is out of range.
    """

    family = "labels"
    needs_teacher = False
    reads_targets = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")
        self.label_smoothing = label_smoothing

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return ce(student.logits, batch.target, self.label_smoothing)
