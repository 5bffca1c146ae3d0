"""Patient KD: matches the direction of the first token's state in several layers.

    L = (1/B) Σ_i Σ_m ‖h_s^m[i] / ‖h_s^m[i]‖ − h_t^g(m)[i] / ‖h_t^g(m)[i]‖‖²

h is the state of the first token, [CLS], which stands for the text. g takes the student's layers,
but for the last, to the teacher's: to every k-th (`skip`) or to the last ones (`last`).

Paper: Sun, Cheng, Gan & Liu, "Patient Knowledge Distillation for BERT Model Compression", EMNLP
2019, https://arxiv.org/abs/1908.09355.

The authors' code takes the mean over layers and width where the paper sums, so a weight there is
M · D times one here: 100 at 5 layers of 768 is 0.026.

Reduction: sum over widths and layers, mean over the batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.objectives.tokens import TokenObjective, check_rank, projector
from kd.types import Batch, Outputs


def pkd(student_states: Sequence[Tensor], teacher_states: Sequence[Tensor]) -> Tensor:
    """Squared distance of normalised states of the first token.

    Args:
        student_states: of each chosen layer [B, D].
        teacher_states: of each chosen layer [B, D], as many as the student's.

    Returns:
        Scalar in [0, 4 · layers]: sum over layers, mean over the batch.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> losses.pkd([torch.tensor([[3.0, 0.0]])], [torch.tensor([[0.0, 2.0]])])
        tensor(2.)

    Reference:
        Sun et al. 2019, https://arxiv.org/abs/1908.09355
    """
    pairs = zip(student_states, teacher_states, strict=True)
    squares = [(_unit(own) - _unit(other)).square().sum(1) for own, other in pairs]
    return torch.stack(squares).sum(0).mean()


def _unit(states: Tensor) -> Tensor:
    return F.normalize(upcast(states), dim=1, eps=1e-6)


class Patience(TokenObjective):
    """Patient KD as a loss term; other widths go through trained linear maps.

    Args:
        taps: pairs of hidden states [B, L, D], each a name for both nets or `student:teacher`.

    Raises:
        ValueError: there are no taps.
    """

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self.check_pairs(taps, "layer_1, layer_2, …")
        self.projectors = nn.ModuleDict()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        super().build(student, teacher, setting)
        for tap in self.student_taps:
            own, other = student.taps[tap], teacher.taps[tap]
            check_rank(tap, own, other, 3, "hidden states [B, L, D]")
            self.projectors[tap] = projector(own, other)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        own = [self.projectors[tap](student.taps[tap][:, 0]) for tap in self.student_taps]
        return pkd(own, [teacher.taps[tap][:, 0] for tap in self.student_taps])
