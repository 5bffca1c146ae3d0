"""Graphs of the images of a batch: L = λ_V·vertices + λ_E·edges + λ_T·transitions.

    vertices:     ⟨(z_s − z_t)²⟩ over batch and classes
    edges:        ⟨(A_s − A_t)²⟩ over pairs, mean over layers;  A_ij = ‖f_i − f_j‖² / max
    transitions:  ⟨(Λ_s − Λ_t)²⟩ over the batch, mean over neighbouring stages;
                  Λ_i = ‖f_i at one stage − f_i at the next‖² / max

Liu et al., "Knowledge Distillation via Instance Relationship Graph", 2019. Squared Euclidean
distances are divided by the largest of the batch, as usual implementations do, because nets of
other widths have other scales. Two stages of a net are made comparable by average pooling, to the
later one's resolution and to the fewer channels; the paper's nets differ by a factor of two there.
Pairs are those of distinct images, B(B − 1), where most code counts B² with the zero diagonal.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError
from kd.objectives.base import Objective, Setting
from kd.objectives.maps import resample
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram, off_diagonal
from kd.types import Batch, Outputs


def relative(distances: Tensor) -> Tensor:
    """Non-negative distances as shares of the largest; all zeros stay zeros."""
    return distances / distances.amax().clamp_min(1e-12)


def edges(rows: Tensor) -> Tensor:
    """A_ij as [B, B − 1] of rows [B, D]."""
    products = gram(rows - rows.mean(0))  # centred: no difference of large numbers
    squares = products.diagonal()
    distances = squares[:, None] + squares[None, :] - 2 * products
    return relative(off_diagonal(distances).clamp_min(0))


def transition(early: Tensor, late: Tensor) -> Tensor:
    """Λ_i as [B] of two stages' maps [B, C, H, W] in the order of the net."""
    early = resample(early.float(), (late.shape[2], late.shape[3]))
    size = (min(early.shape[1], late.shape[1]), late.shape[2] * late.shape[3])
    # As one-channel images [C, H·W], of which only the rows are pooled
    early, late = (F.adaptive_avg_pool2d(m.flatten(2).float(), size) for m in (early, late))
    return relative((early - late).square().flatten(1).sum(1))


class InstanceGraph(Objective):
    """Squared distances of vertices, edges and transitions, weighted.

    Args:
        taps: two or more stages with maps in both nets, in the order of the nets.
        embedding: one more tap whose edges are compared; a map is flattened.
        vertex: λ_V ≥ 0.
        edge: λ_E ≥ 0.
        transition: λ_T ≥ 0.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(
        self,
        taps: Sequence[str],
        embedding: str = "embedding",
        vertex: float = 0.1,
        edge: float = 5.0,
        transition: float = 5.0,
    ) -> None:
        super().__init__()
        if len(taps) < 2:
            raise ValueError(
                f"taps must be two stages or more that both nets have, got {list(taps)}"
            )
        self.stages = tuple(taps)
        self.weights = {"vertex": vertex, "edge": edge, "transition": transition}
        for name, value in self.weights.items():
            if value < 0:
                raise ValueError(f"{name} must be ≥ 0, got {value!r}")
        if not any(self.weights.values()):
            raise ValueError("vertex, edge or transition must be > 0, got 0 for all three")
        self.student_taps = self.teacher_taps = (*self.stages, embedding)

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        for tap in self.stages:
            shapes = [list(outputs.taps[tap].shape) for outputs in (student, teacher)]
            if any(len(shape) != 4 for shape in shapes):
                raise UserError(
                    f"an instance graph needs maps [B, C, H, W] at tap {tap!r}; the student has "
                    f"{shapes[0]}, the teacher {shapes[1]}"
                )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        check_images(student.logits, 2, "the instance graph")
        terms = {
            "vertex": F.mse_loss(student.logits.float(), teacher.logits.float()),
            "edge": F.mse_loss(self._edges(student), self._edges(teacher)),
            "transition": F.mse_loss(self._transitions(student), self._transitions(teacher)),
        }
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def _edges(self, net: Outputs) -> Tensor:
        return torch.stack([edges(flat(net.taps[tap])) for tap in self.student_taps])

    def _transitions(self, net: Outputs) -> Tensor:
        return torch.stack(
            [transition(net.taps[early], net.taps[late]) for early, late in pairwise(self.stages)]
        )
