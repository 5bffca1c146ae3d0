"""Simple recipe distillation (SRD): log-sum distance of normalised, projected embeddings.

    L = log Σ_i Σ_d |z_s[i, d] − z_t[i, d]|^p,    z_s = BN(P f_s),  z_t = BN(f_t)

The sum runs over the batch and the teacher's dimensions. BN standardises by the statistics of the
current batch, without trained scale and shift; P is a trained linear map.

Paper: Miles & Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation",
AAAI 2024, https://arxiv.org/abs/2303.11098.

The larger p, the more the largest differences dominate. The authors' code has p = 4, torchdistill's
class p = 1 by default.

Reduction: sum inside the logarithm. The logarithm makes the gradient independent of the number of
summands, so the sum is not divided by it.
"""

from torch import Tensor, nn

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.pairs import ONE_BATCH, full_precision
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs


def srd(student_embedding: Tensor, teacher_embedding: Tensor, power: float = 4.0) -> Tensor:
    """Log-sum distance.

    Args:
        student_embedding: projected embeddings [B, D].
        teacher_embedding: embeddings [B, D].
        power: p ≥ 1.

    Returns:
        Scalar, negative for close embeddings: logarithm of the sum over the batch and dimensions,
        at least log(1e-12) = −27.6.

    Raises:
        UserError: fewer than 2 images.

    Example:
        Standardised to ±1 with opposite signs, the two differences are 2: log(2 · 2⁴).

        >>> import torch
        >>> from kd import losses
        >>> student = torch.tensor([[100.0], [-100.0]])
        >>> round(losses.srd(student, -student).item(), 4)
        3.4657

    Reference:
        Miles & Mikolajczyk 2024, https://arxiv.org/abs/2303.11098
    """
    if len(student_embedding) < 2:
        raise UserError(
            f"srd standardises over the batch and needs at least 2 images a step, got "
            f"{len(student_embedding)}; raise data.batch_size"
        )
    student, teacher = (
        standardise_dimensions(upcast(rows)) for rows in (student_embedding, teacher_embedding)
    )
    # The floor keeps the logarithm finite where both agree.
    return (student - teacher).abs().pow(power).sum().clamp_min(1e-12).log()


def standardise_dimensions(vectors: Tensor) -> Tensor:
    """Bring every dimension of [B, D] to mean 0 and variance 1 over the batch; ε = 1e-4."""
    centred = vectors - vectors.mean(0)
    return centred * (centred.square().mean(0) + 1e-4).rsqrt()


class SimpleRecipe(Objective):
    """Simple recipe distillation as a loss term, with a trained linear projector.

    Args:
        tap: canonical name of a tap with vectors [B, D] or maps [B, C, H, W]; maps are averaged
            over positions.
        power: p ≥ 1.

    Raises:
        ValueError: `power` is out of range.
    """

    family = "feature"
    tokens_as_maps = True
    one_device = ONE_BATCH

    def __init__(self, tap: str = "embedding", power: float = 4.0) -> None:
        super().__init__()
        if power < 1:
            raise ValueError(f"power must be ≥ 1, got {power!r}")
        self.tap = tap
        self.student_taps = self.teacher_taps = (tap,)
        self.power = power
        self.projector: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        student_tap, teacher_tap = student.taps[self.tap], teacher.taps[self.tap]
        if student_tap.dim() not in (2, 4) or teacher_tap.dim() not in (2, 4):
            raise UserError(
                f"srd needs vectors [B, D] or maps [B, C, H, W] at tap {self.tap!r}; the student "
                f"has {list(student_tap.shape)}, the teacher {list(teacher_tap.shape)}"
            )
        self.projector = nn.Linear(student_tap.shape[1], teacher_tap.shape[1])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        student_vectors = _vector(student.taps[self.tap])
        # Powers of differences of standardised values lose their digits in bfloat16.
        with full_precision(student_vectors):
            projected = self.projector(student_vectors)
            return srd(projected, _vector(teacher.taps[self.tap]), self.power)


def _vector(tensor: Tensor) -> Tensor:
    return tensor.float().mean((2, 3)) if tensor.dim() == 4 else tensor.float()
