"""Distances and angles between images: L = λ_D ⟨h(d_s − d_t)⟩_ij + λ_A ⟨h(a_s − a_t)⟩_ijk.

    d_ij  = ‖f_i − f_j‖ / μ,  μ the mean of ‖f_i − f_j‖ over the pairs of the batch
    a_ijk = cos of the angle at f_j between f_i and f_k
    h(x)  = x² / 2 for |x| ≤ 1, |x| − 1/2 beyond (Huber)

Park et al., "Relational Knowledge Distillation", 2019, with λ_D = 25 and λ_A = 50. Its sums run
over distinct images, and are means here: over B(B − 1) pairs and B(B − 1)(B − 2) triples. The
authors' code divides by B² and B³, zeros of the coinciding images included, 5 % less for angles at
B = 64; and leaves pairs of equal images out of μ.

Angles are read off the Gram matrix, so that no [B, B, B, D] occurs, in parts, and computed again
in the backward pass instead of being kept. At B = 256 and D = 512 forward and backward add 40 to
110 MB to the resident memory of a process on a CPU, where all angles at once add 450.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kd.objectives.base import Objective
from kd.objectives.pairs import ONE_BATCH, check_images, flat, gram, off_diagonal
from kd.types import Batch, Outputs

ANGLES = 2**19  # at a time in memory: all of 64 images and more, one in 32 of 256


def geometry(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Gram matrix and distances [B, B] of rows [B, D], centred and with a mean square length of 1.

    Neither distance ratios nor angles change under either, and products are exact near 0. Distances
    are at least 1e-3, below which float32 has no angles and the root no useful gradient.
    """
    rows = rows - rows.mean(0)
    scale = rows.detach().square().sum(1).mean().sqrt()
    products = gram(rows / scale.clamp_min(1e-12))
    squares = products.diagonal()
    distances = squares[:, None] + squares[None, :] - 2 * products
    return products, distances.clamp_min(1e-6).sqrt()


def cosines(products: Tensor, distances: Tensor, vertices: Tensor) -> Tensor:
    """a_ijk as [J, B, B] for the vertices j [J]; of use where i, j and k differ."""
    to_vertex, apart = products[vertices], distances[vertices]
    own = to_vertex.gather(1, vertices[:, None])
    dots = products - to_vertex[:, :, None] - to_vertex[:, None, :] + own[:, :, None]
    return dots / (apart[:, :, None] * apart[:, None, :])


def angle_sum(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], j: Tensor) -> Tensor:
    """Σ h(a_s − a_t) over the triples whose vertices are j [J]."""
    losses = F.smooth_l1_loss(cosines(*student, j), cosines(*teacher, j), reduction="none")
    every = torch.arange(losses.shape[1], device=j.device)
    others = every != j[:, None]
    triples = others[:, :, None] & others[:, None, :] & (every[:, None] != every)
    return torch.where(triples, losses, 0.0).sum()


def angle_distance(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """⟨h(a_s − a_t)⟩ over all triples, from what `geometry` gives for each net."""
    size = student[0].shape[0]
    vertices = torch.arange(size, device=student[0].device)
    groups = vertices.split(max(1, ANGLES // size**2))
    sums = [
        checkpoint(angle_sum, student, teacher, j, use_reentrant=False, preserve_rng_state=False)
        for j in groups
    ]
    return torch.stack(sums).sum() / (size * (size - 1) * (size - 2))


def distance_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """⟨h(d_s − d_t)⟩ over all pairs, of distances [B, B] that are not yet divided by their mean."""
    ours, theirs = off_diagonal(student), off_diagonal(teacher)
    return F.smooth_l1_loss(ours / ours.mean(), theirs / theirs.mean())


class Relational(Objective):
    """Huber loss of distances and of angles, weighted.

    Args:
        tap: the tap compared; a map is flattened.
        distance: λ_D ≥ 0.
        angle: λ_A ≥ 0; needs 3 images, and time that grows with B³.
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
        ours, theirs = flat(student.taps[self.tap]), flat(teacher.taps[self.tap])
        check_images(ours, 3 if self.angle else 2, "relational distillation")
        student_geometry, teacher_geometry = geometry(ours), geometry(theirs)
        loss = ours.new_zeros(())
        if self.distance:
            distances = student_geometry[1], teacher_geometry[1]
            loss = loss + self.distance * distance_distance(*distances)
        if self.angle:
            loss = loss + self.angle * angle_distance(student_geometry, teacher_geometry)
        return loss
