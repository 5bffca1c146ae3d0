"""V_kD: matches the student's embedding, rotated by an orthogonal projection, to a normalised one.

    L = ⟨smooth-L1(P f_s, N(f_t))⟩,    PᵀP = 1 (PPᵀ = 1 for a student wider than the teacher)

P is trained, and stays orthogonal at every step: it is the exponential of a skew-symmetric matrix,
cut to the widths of both nets. So P keeps the inner products of a student that is not wider than
its teacher, and cannot learn a part of the task in the student's place. N depends on the task:
standardised features for what tells classes apart, whitened ones for generation.

Paper: Miles, Elezi & Deng, "V_kD: Improving Knowledge Distillation using Orthogonal Projections",
CVPR 2024, https://arxiv.org/abs/2403.06213.

`standardise` brings every embedding of the teacher to mean 0 and variance 1 over its dimensions, a
layer norm without trained parameters, as in the authors' code; `whiten` makes the dimensions of a
batch uncorrelated with variance 1 by a Cholesky factor of their covariance, to which a thousandth
of its mean variance is added, since a batch smaller than the width has a singular one. The authors'
repository has no whitening.

Maps and tokens of patches are averaged over their positions. The authors' code takes the mean of a
transformer's patches after its last layer norm, the tap `tokens`; a `vit_tiny_cifar` has its class
token as `embedding`. That code has reflections (Householder) in place of the exponential where the
widths differ, and adds KL at T = 1 on a distillation token with the same weight 1 as this term.

Reduction: ⟨·⟩ is the mean over the batch and the teacher's dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from kd.errors import UserError
from kd.objectives.base import Objective
from kd.objectives.checks import check_choice
from kd.objectives.pairs import full_precision
from kd.objectives.precision import upcast
from kd.objectives.setting import Setting
from kd.types import Batch, Outputs

NORMALISATIONS = ("standardise", "whiten", "none")
_RIDGE = 1e-3  # of the covariance, relative to its mean variance


def vkd(
    student_embedding: Tensor, teacher_embedding: Tensor, normalisation: str = "standardise"
) -> Tensor:
    """Smooth L1 distance to the normalised embedding of the teacher.

    Args:
        student_embedding: P f_s, projected embeddings [B, D].
        teacher_embedding: f_t, embeddings [B, D].
        normalisation: "standardise", "whiten" or "none".

    Returns:
        Scalar ≥ 0: mean over the batch and dimensions.

    Raises:
        ValueError: `normalisation` is unknown.

    Example:
        Standardised, (3, 1) is (1, −1), and half the squared distance to (0, 0) is ½ in both:

        >>> from kd import losses
        >>> losses.vkd(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]))
        tensor(0.5000)

    Reference:
        Miles, Elezi & Deng 2024, https://arxiv.org/abs/2403.06213
    """
    check_choice("normalisation", normalisation, NORMALISATIONS)
    target = upcast(teacher_embedding)
    if normalisation == "standardise":
        target = F.layer_norm(target, target.shape[1:])
    elif normalisation == "whiten":
        target = whiten(target)
    return F.smooth_l1_loss(upcast(student_embedding), target)


def whiten(vectors: Tensor) -> Tensor:
    """Make the dimensions of [B, D] uncorrelated over the batch, with mean 0 and variance 1.

    Example:
        >>> mixing = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
        >>> vectors = whiten(torch.randn(1000, 3) @ mixing)
        >>> (vectors.T @ vectors / 1000).diagonal().round(decimals=1)
        tensor([1., 1., 1.])
    """
    centred = vectors - vectors.mean(0)
    with full_precision(centred):
        covariance = centred.T @ centred / len(centred)
        ridge = _RIDGE * covariance.diagonal().mean() + 1e-6
        eye = torch.eye(len(covariance), dtype=centred.dtype, device=centred.device)
        factor = torch.linalg.cholesky(covariance + ridge * eye)
        return torch.linalg.solve_triangular(factor, centred.T, upper=False).T


class OrthogonalProjection(Objective):
    """V_kD as a loss term, with a trained orthogonal projection.

    Args:
        student_tap: canonical name of the student's tap.
        teacher_tap: canonical name of the teacher's tap.
        normalisation: of the teacher's embedding: "standardise", "whiten" or "none".

    Raises:
        ValueError: `normalisation` is unknown.
    """

    family = "feature"
    tokens_as_maps = True

    def __init__(
        self,
        student_tap: str = "embedding",
        teacher_tap: str = "embedding",
        normalisation: str = "standardise",
    ) -> None:
        super().__init__()
        check_choice("normalisation", normalisation, NORMALISATIONS)
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.student_taps, self.teacher_taps = (student_tap,), (teacher_tap,)
        self.normalisation = normalisation
        self.projector: nn.Module = nn.Identity()

    def build(self, student: Outputs, teacher: Outputs, setting: Setting) -> None:
        ours, theirs = student.taps[self.student_tap], teacher.taps[self.teacher_tap]
        if ours.dim() not in (2, 4) or theirs.dim() not in (2, 4):
            raise UserError(
                f"vkd needs vectors [B, D] or maps [B, C, H, W]; student tap {self.student_tap!r} "
                f"has {list(ours.shape)}, teacher tap {self.teacher_tap!r} has "
                f"{list(theirs.shape)}"
            )
        linear = nn.Linear(ours.shape[1], theirs.shape[1], bias=False)
        self.projector = parametrizations.orthogonal(linear, orthogonal_map="matrix_exp")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        embedding = _vector(student.taps[self.student_tap])
        # In bfloat16 the exponential is orthogonal to two digits only.
        with full_precision(embedding):
            projected = self.projector(embedding)
            return vkd(projected, _vector(teacher.taps[self.teacher_tap]), self.normalisation)


def _vector(tensor: Tensor) -> Tensor:
    return tensor.float().mean((2, 3)) if tensor.dim() == 4 else tensor.float()
