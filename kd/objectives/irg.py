"""Instance relationship graph: matches logits, distances of images, and changes between stages.

    L = λ_V·vertices + λ_E·edges + λ_T·transitions

    vertices:     ⟨(z_s − z_t)²⟩ over the batch and classes
    edges:        ⟨(A_s − A_t)²⟩ over pairs, mean over taps;  A_ij = ‖f_i − f_j‖² / max
    transitions:  ⟨(Λ_s − Λ_t)²⟩ over the batch, mean over neighbouring stages;
                  Λ_i = ‖f_i at one stage − f_i at the next‖² / max

Paper: Liu, Cao, Li, Yuan, Hu, Li & Duan, "Knowledge Distillation via Instance Relationship Graph",
CVPR 2019,
https://openaccess.thecvf.com/content_CVPR_2019/html/Liu_Knowledge_Distillation_via_Instance_Relationship_Graph_CVPR_2019_paper.html.

Squared Euclidean distances are divided by the largest of the batch, as in usual implementations,
because nets of other widths have other scales. Two stages of a net are made comparable by average
pooling, to the later one's resolution and to the smaller number of channels; in the paper's nets
they differ by a factor of two. Pairs are those of distinct images, B(B − 1), where most code counts
B² with the zero diagonal.

Reduction: mean in all three terms.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.maps import IMAGES, resample
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram, off_diagonal
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def irg(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    vertex: float = 0.1,
    edge: float = 5.0,
    transition: float = 5.0,
) -> Tensor:
    """Squared differences of vertices, edges and transitions, weighted.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        student_maps: maps [B, C, H, W] of two or more stages, in the order of the net.
        teacher_maps: the teacher's maps, of as many stages.
        student_embedding: one more tensor [B, …] whose edges are compared.
        teacher_embedding: the same of the teacher.
        vertex: λ_V ≥ 0.
        edge: λ_E ≥ 0.
        transition: λ_T ≥ 0.

    Returns:
        Scalar ≥ 0: weighted sum of three means.

    Raises:
        UserError: fewer than 2 images.

    Example:
        Edges and transitions are ratios of distances, so the scale of the taps plays no part:

        >>> import torch
        >>> from kd import losses
        >>> logits, embedding = torch.eye(3), torch.eye(3, 4)
        >>> maps = [torch.arange(48.0).view(3, 4, 2, 2) ** 2, torch.ones(3, 2, 2, 2)]
        >>> scaled = [10 * tensor for tensor in maps]
        >>> loss = losses.irg(logits, logits, scaled, maps, 10 * embedding, embedding)
        >>> loss.item() < 1e-9
        True

    Reference:
        Liu et al. 2019,
        https://openaccess.thecvf.com/content_CVPR_2019/html/Liu_Knowledge_Distillation_via_Instance_Relationship_Graph_CVPR_2019_paper.html
    """
    check_images(student_logits, 2, "the instance graph")
    student_edges, teacher_edges = (
        torch.stack([edges(flat(tensor)) for tensor in (*maps, embedding)])
        for maps, embedding in (
            (student_maps, student_embedding),
            (teacher_maps, teacher_embedding),
        )
    )
    student_changes, teacher_changes = (
        torch.stack([relative_change(early, late) for early, late in pairwise(maps)])
        for maps in (student_maps, teacher_maps)
    )
    terms = [
        vertex * F.mse_loss(upcast(student_logits), upcast(teacher_logits)),
        edge * F.mse_loss(student_edges, teacher_edges),
        transition * F.mse_loss(student_changes, teacher_changes),
    ]
    return torch.stack(terms).sum()


def relative(distances: Tensor) -> Tensor:
    """Non-negative distances divided by the largest; zeros if all are zero."""
    return distances / distances.amax().clamp_min(1e-12)


def edges(rows: Tensor) -> Tensor:
    """A_ij as [B, B − 1] of rows [B, D]."""
    # Centred rows: the distances are differences of smaller numbers, with less rounding.
    products = gram(rows - rows.mean(0))
    squares = products.diagonal()
    distances = squares[:, None] + squares[None, :] - 2 * products
    return relative(off_diagonal(distances).clamp_min(0))


def relative_change(early: Tensor, late: Tensor) -> Tensor:
    """Λ_i as [B] of two stages' maps [B, C, H, W], in the order of the net."""
    early = resample(upcast(early), (late.shape[2], late.shape[3]))
    size = (min(early.shape[1], late.shape[1]), late.shape[2] * late.shape[3])
    # Pooled as one-channel images [C, H·W], so that only the channels are averaged
    early, late = (F.adaptive_avg_pool2d(upcast(m.flatten(2)), size) for m in (early, late))
    return relative((early - late).square().flatten(1).sum(1))


class InstanceGraph(Objective):
    """Instance relationship graph as a loss term.

    Args:
        taps: canonical names of two or more stages with maps in both nets, in the order of the
            nets.
        embedding: canonical name of one more tap whose edges are compared; a map is flattened.
        vertex: λ_V ≥ 0.
        edge: λ_E ≥ 0.
        transition: λ_T ≥ 0.

    Raises:
        ValueError: fewer than two taps, a negative weight, or weights that are all 0.
    """

    tasks = IMAGES
    family = "relation"
    tokens_as_maps = True
    reads_logits = True
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
        self.weights = {"vertex": vertex, "edge": edge, "transition": transition}
        for name, value in self.weights.items():
            if value < 0:
                raise ValueError(f"{name} must be ≥ 0, got {value!r}")
        if not any(self.weights.values()):
            raise ValueError("vertex, edge or transition must be > 0, got 0 for all three")
        self.pair((*taps, embedding))
        self.stages, self.embedding = self.student_taps[:-1], self.student_taps[-1]

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        for tap in self.stages:
            shapes = [list(outputs.taps[tap].shape) for outputs in (student, teacher)]
            if any(len(shape) != 4 for shape in shapes):
                raise UserError(
                    f"an instance graph needs maps [B, C, H, W] at tap {tap!r}; the student has "
                    f"{shapes[0]}, the teacher {shapes[1]}"
                )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return irg(
            student.logits,
            teacher.logits,
            [student.taps[tap] for tap in self.stages],
            [teacher.taps[tap] for tap in self.stages],
            student.taps[self.embedding],
            teacher.taps[self.embedding],
            **self.weights,
        )
