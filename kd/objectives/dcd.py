"""Discriminative and consistent distillation (DCD): contrasts the images of a batch, both ways.

    L = (1/B) Σ_i [−log p[i, i]] + γ · (1/B) Σ_j KL(q[j] ‖ p[j])

    p[i] = softmax_j(a·⟨s_i, t_j⟩),    q[j] = softmax_i(a·⟨s_i, t_j⟩),    a = min(e^θ, 10)
    s = g_S(f_s), t = g_T(f_t) linear, of length 1

p[i] are a student's embedding's shares of the teacher's, q[j] those of a teacher's embedding of the
student's. The first part tells every image from the others of the batch; the second makes the two
directions agree. θ, the logarithm of an inverse temperature, is trained.

Paper: Giakoumoglou & Stathaki, "Discriminative and Consistent Representation Distillation", 2024,
https://arxiv.org/abs/2407.11802: γ = 0.5, 128 dimensions, θ = 1 at first and a ≤ 10.

The paper also trains a number that it adds to every score. It changes neither softmax and has no
gradient, and is left out.

Reduction: sum over the images of the batch in the divergence, mean over the batch.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.objectives.base import Objective
from kd.objectives.pairs import ONE_BATCH, flat, full_precision
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

LARGEST = 10.0  # of the scale a, as in the authors' code


def dcd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    scale: float | Tensor = math.e,
    consistency: float = 0.5,
) -> Tensor:
    """Contrast within a batch, and agreement of its two directions.

    Args:
        student_embedding: s [B, D], of length 1.
        teacher_embedding: t [B, D], of length 1.
        scale: a > 0, an inverse temperature; a number or a tensor [].
        consistency: γ ≥ 0, weight of the divergence.

    Returns:
        Scalar ≥ 0: mean over the batch; 0 for a single image.

    Example:
        Embeddings without any relation have equal shares, log B, which agree in both directions:

        >>> import torch
        >>> from kd import losses
        >>> same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> losses.dcd(same, same)  # log 2
        tensor(0.6931)

    Reference:
        Giakoumoglou & Stathaki 2024, https://arxiv.org/abs/2407.11802
    """
    student, teacher = upcast(student_embedding), upcast(teacher_embedding)
    with full_precision(student):
        scores = student @ teacher.T * scale
    log_p, log_q = F.log_softmax(scores, dim=1), F.log_softmax(scores.T, dim=1)
    divergence = F.kl_div(log_p, log_q, log_target=True, reduction="batchmean")
    return consistency * divergence - log_p.diagonal().mean()


class DiscriminativeConsistent(Objective):
    """Discriminative and consistent distillation as a loss term, with trained embeddings and scale.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
        dim: width ≥ 1 of the embeddings.
        consistency: γ ≥ 0, weight of the divergence.

    Raises:
        ValueError: a setting is out of range.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(self, tap: str = "embedding", dim: int = 128, consistency: float = 0.5) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be ≥ 1, got {dim!r}")
        if not consistency >= 0:
            raise ValueError(f"consistency must be ≥ 0, got {consistency!r}")
        self.pair((tap,))
        (self.tap,) = self.student_taps
        self.dim, self.consistency = dim, consistency
        self.theta = nn.Parameter(torch.tensor(1.0))
        self.student_embedding: nn.Module = nn.Identity()
        self.teacher_embedding: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        widths = [flat(outputs.taps[self.tap]).shape[1] for outputs in (student, teacher)]
        self.student_embedding = nn.Linear(widths[0], self.dim)
        self.teacher_embedding = nn.Linear(widths[1], self.dim)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_rows, teacher_rows = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        with full_precision(student_rows):
            s = F.normalize(self.student_embedding(student_rows), dim=1)
            t = F.normalize(self.teacher_embedding(teacher_rows), dim=1)
            scale = self.theta.exp().clamp(max=LARGEST)
        return dcd(s, t, scale, self.consistency)
