"""Relational representation distillation (RRD): similarities to a memory of the teacher.

    L = −(1/B) Σ_i Σ_j p_t[i, j] · log p_s[i, j]
    p_t[i] = softmax_j(⟨t_i, q_j⟩ / τ_t),    p_s[i] = softmax_j(⟨s_i, q_j⟩ / τ_s)

    s = g_S(f_s), t = g_T(f_t) linear, of length 1

q_j are the teacher's embeddings t of the latest images, those of the batch among them. The student
need not tell an image from all others, as in CRD: it is to find each as similar to the others as
the teacher does. For τ_t → 0 only the image itself has weight, and L is InfoNCE.

Paper: Giakoumoglou & Stathaki, "Relational Representation Distillation", 2024,
https://arxiv.org/abs/2407.12073: τ_s = 0.02 sharpens the student, τ_t = 0.1; 128 dimensions and a
memory of 16 384 rows. (The authors' loss has these temperatures in its documentation; their script
for CIFAR-100 has the two values the other way round.)

As in the authors' code, no gradient reaches g_T: it is a random projection that stays as it is. The
code starts with a memory of noise, takes only batches that divide it, and keeps an image that it
has seen in two epochs twice. Here rows count once they are filled, a batch of any size replaces the
oldest, and the latest row of an image is its only one.

Reduction: sum over the memory, mean over the batch. The smallest value is the entropy of p_t.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_temperature
from kd.objectives.pairs import flat, full_precision
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def rrd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    teacher_memory: Tensor,
    filled: Tensor | None = None,
    student_temperature: float = 0.02,
    teacher_temperature: float = 0.1,
) -> Tensor:
    """Cross-entropy of the two nets' softmax over similarities to the memory.

    Args:
        student_embedding: s [B, D], of length 1.
        teacher_embedding: t [B, D], of length 1.
        teacher_memory: q [M, D], of length 1: the teacher's embeddings of these and other images.
        filled: whether each row of the memory counts, bool [M]; None: all do.
        student_temperature: τ_s > 0.
        teacher_temperature: τ_t > 0.

    Returns:
        Scalar ≥ 0: sum over the memory, mean over the batch.

    Example:
        The loss is small where an image is similar to itself and not to the others:

        >>> import torch
        >>> from kd import losses
        >>> images = torch.eye(3)
        >>> loss = losses.rrd(images, images, images)
        >>> bool(loss < losses.rrd(images.flip(0), images, images))
        True

    Reference:
        Giakoumoglou & Stathaki 2024, https://arxiv.org/abs/2407.12073
    """
    student, teacher = upcast(student_embedding), upcast(teacher_embedding)
    memory = upcast(teacher_memory)
    with full_precision(student):
        ours = student @ memory.T / student_temperature
        theirs = teacher @ memory.T / teacher_temperature
    if filled is not None:
        # Finite, as 0 · −∞ is no number, and far below −1 / τ of any temperature.
        ours, theirs = (scores.masked_fill(~filled, -1e30) for scores in (ours, theirs))
    return F.cross_entropy(ours, F.softmax(theirs, dim=1))


class RelationalRepresentation(Objective):
    """Relational representation distillation as a loss term, with embeddings and a memory.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
        dim: width ≥ 1 of the embeddings.
        memory: number of rows ≥ 1; None: 16 384, but at most the size of the training pool.
        student_temperature: τ_s > 0.
        teacher_temperature: τ_t > 0.

    Raises:
        ValueError: a setting is out of range.
    """

    family = "relation"
    needs_index = True
    one_device = "its memory would hold on each device the images seen there"
    memory: Tensor  # [M, dim]; rows that are not filled yet are zero
    owners: Tensor  # index of each row's image, int64 [M]
    position: Tensor  # [], number of images seen so far

    def __init__(
        self,
        tap: str = "embedding",
        dim: int = 128,
        memory: int | None = None,
        student_temperature: float = 0.02,
        teacher_temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be ≥ 1, got {dim!r}")
        if memory is not None and memory < 1:
            raise ValueError(f"memory must be ≥ 1 or null, got {memory!r}")
        self.pair((tap,))
        (self.tap,) = self.student_taps
        self.dim, self.rows, self.max_batch = dim, memory, memory
        self.student_temperature = check_temperature(student_temperature)
        self.teacher_temperature = check_temperature(teacher_temperature)
        self.student_embedding: nn.Module = nn.Identity()
        self.teacher_embedding: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        rows = self.rows or max(1, min(16_384, len(setting.targets)))
        widths = [flat(outputs.taps[self.tap]).shape[1] for outputs in (student, teacher)]
        self.student_embedding = nn.Linear(widths[0], self.dim)
        self.teacher_embedding = nn.Linear(widths[1], self.dim).requires_grad_(False)
        self.register_buffer("memory", torch.zeros(rows, self.dim))
        self.register_buffer("owners", torch.full((rows,), -1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_rows, teacher_rows = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        with full_precision(student_rows):
            s = F.normalize(self.student_embedding(student_rows), dim=1)
            t = F.normalize(self.teacher_embedding(teacher_rows), dim=1)
        if self.training:
            self._remember(t, batch.index)
        temperatures = self.student_temperature, self.teacher_temperature
        # A copy: the next batch overwrites rows that the backward pass still reads.
        return rrd(s, t, self.memory.clone(), self.memory.any(1), *temperatures)

    @torch.no_grad()
    def _remember(self, rows: Tensor, index: Tensor) -> None:
        """Replace the oldest rows of the memory, and drop earlier ones of the same images."""
        if len(rows) > len(self.memory):
            raise UserError(
                f"rrd keeps {len(self.memory)} images in its memory and got {len(rows)} in a step; "
                "raise method.memory, or lower data.batch_size"
            )
        places = (self.position + torch.arange(len(rows), device=rows.device)) % len(self.memory)
        earlier = (self.owners[:, None] == index).any(1, keepdim=True)
        self.memory.masked_fill_(earlier, 0.0).index_copy_(0, places, rows)
        self.owners.index_copy_(0, places, index)
        self.position.add_(len(rows))
