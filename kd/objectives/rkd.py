"""Relational KD: matches pairwise distances and angles of embeddings.

    L = λ_D ⟨h(d_s − d_t)⟩_ij + λ_A ⟨h(a_s − a_t)⟩_ijk

    d_ij  = ‖f_i − f_j‖ / μ,  μ the mean of ‖f_i − f_j‖ over the pairs of the batch
    a_ijk = cosine of the angle at f_j between f_i and f_k
    h(x)  = x² / 2 for |x| ≤ 1, |x| − 1/2 beyond (Huber)

Paper: Park, Kim, Lu & Cho, "Relational Knowledge Distillation", CVPR 2019,
https://arxiv.org/abs/1904.05068, with λ_D = 25 and λ_A = 50.

Reduction: the paper sums over tuples of distinct images; here they are means, over B(B − 1) pairs
and B(B − 1)(B − 2) triples. The authors' code divides by B² and B³, the zeros of coinciding images
included, which is 5 % less for angles at B = 64, and excludes pairs of identical images from μ.

Angles are computed from the Gram matrix, so that no tensor [B, B, B, D] exists, in groups of
vertices, and recomputed in the backward pass instead of being stored. At B = 256 and D = 512
forward and backward add 40 to 110 MB of resident memory on a CPU; all angles at once add 450 MB.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kd.objectives.base import Objective
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram, off_diagonal
from kd.types import Batch, Outputs

ANGLES = 2**19  # in memory at a time: all angles of up to 80 images, one in 32 of 256 images


def rkd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    distance: float = 25.0,
    angle: float = 50.0,
) -> Tensor:
    """Distance-wise and angle-wise loss.

    Args:
        student_embedding: embeddings [B, …], flattened to [B, D_s].
        teacher_embedding: embeddings [B, …], flattened to [B, D_t].
        distance: λ_D ≥ 0, weight of the distances.
        angle: λ_A ≥ 0, weight of the angles; their time grows with B³.

    Returns:
        Scalar ≥ 0: mean over pairs, plus mean over triples of images.

    Raises:
        UserError: fewer than 3 images, or than 2 without angles.

    Example:
        Scaling, rotating and shifting the embeddings of one net changes nothing:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> moved = 3 * teacher.flip(1) + 5
        >>> losses.rkd(moved, teacher).item() < 1e-6
        True

    Reference:
        Park et al. 2019, https://arxiv.org/abs/1904.05068
    """
    student, teacher = flat(student_embedding), flat(teacher_embedding)
    check_images(student, 3 if angle else 2, "relational distillation")
    student_geometry, teacher_geometry = geometry(student), geometry(teacher)
    loss = student.new_zeros(())
    if distance:
        loss = loss + distance * distance_loss(student_geometry[1], teacher_geometry[1])
    if angle:
        loss = loss + angle * angle_loss(student_geometry, teacher_geometry)
    return loss


def geometry(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Gram matrix and distances [B, B] of rows [B, D], centred and scaled to unit mean square norm.

    Centring and scaling change neither ratios of distances nor angles, and they keep differences of
    products accurate. Distances are at least 1e-3: below that float32 resolves no angles, and the
    gradient of the square root is unbounded at 0.
    """
    rows = rows - rows.mean(0)
    scale = rows.detach().square().sum(1).mean().sqrt()
    products = gram(rows / scale.clamp_min(1e-12))
    squares = products.diagonal()
    # ‖f_i − f_j‖² = ‖f_i‖² + ‖f_j‖² − 2⟨f_i, f_j⟩
    distances = squares[:, None] + squares[None, :] - 2 * products
    return products, distances.clamp_min(1e-6).sqrt()


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """⟨h(d_s − d_t)⟩ over all pairs, of distances [B, B] not yet divided by their mean."""
    d_s, d_t = off_diagonal(student), off_diagonal(teacher)
    return F.smooth_l1_loss(d_s / d_s.mean(), d_t / d_t.mean())


def angle_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """⟨h(a_s − a_t)⟩ over all triples, from the `geometry` of each net."""
    size = student[0].shape[0]
    vertices = torch.arange(size, device=student[0].device)
    groups = vertices.split(max(1, ANGLES // size**2))
    sums = [
        # Recomputes each group's angles in the backward pass; see the module's memory figures.
        checkpoint(angle_sum, student, teacher, j, use_reentrant=False, preserve_rng_state=False)
        for j in groups
    ]
    return torch.stack(sums).sum() / (size * (size - 1) * (size - 2))


def angle_sum(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], j: Tensor) -> Tensor:
    """Σ h(a_s − a_t) over the triples with vertices j [J]."""
    losses = F.smooth_l1_loss(cosines(*student, j), cosines(*teacher, j), reduction="none")
    images = torch.arange(losses.shape[1], device=j.device)
    others = images != j[:, None]
    distinct = others[:, :, None] & others[:, None, :] & (images[:, None] != images)  # [J, B, B]
    return torch.where(distinct, losses, 0.0).sum()


def cosines(products: Tensor, distances: Tensor, vertices: Tensor) -> Tensor:
    """Cosines a_ijk [J, B, B] at the vertices j [J]; meaningful only for distinct i, j and k."""
    to_vertex, apart = products[vertices], distances[vertices]
    own = to_vertex.gather(1, vertices[:, None])
    # ⟨f_i − f_j, f_k − f_j⟩ = ⟨f_i, f_k⟩ − ⟨f_j, f_i⟩ − ⟨f_j, f_k⟩ + ⟨f_j, f_j⟩
    dots = products - to_vertex[:, :, None] - to_vertex[:, None, :] + own[:, :, None]
    return dots / (apart[:, :, None] * apart[:, None, :])


class Relational(Objective):
    """Relational KD as a loss term.

    Args:
        tap: canonical name of a tap in both nets; maps are flattened.
        distance: λ_D ≥ 0, weight of the distances.
        angle: λ_A ≥ 0, weight of the angles; needs 3 images a batch.

    Raises:
        ValueError: a weight is negative, or both are 0.
    """

    family = "relation"
    one_device = ONE_BATCH

    def __init__(self, tap: str = "embedding", distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        for name, value in {"distance": distance, "angle": angle}.items():
            if value < 0:
                raise ValueError(f"{name} must be ≥ 0, got {value!r}")
        if distance == angle == 0:
            raise ValueError(f"distance or angle must be > 0, got {distance!r} and {angle!r}")
        self.tap = tap
        self.distance, self.angle = distance, angle
        self.student_taps = self.teacher_taps = (tap,)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return rkd(student.taps[self.tap], teacher.taps[self.tap], self.distance, self.angle)
