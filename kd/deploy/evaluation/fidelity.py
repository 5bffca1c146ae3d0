"""Agreement of a student with its teacher: predictions, probabilities and embeddings."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.deploy.evaluation.predictions import Predictions, check_logits
from kd.errors import UserError

_ROWS = 4096  # of the embeddings that are converted to float64 at a time


@dataclass(frozen=True)
class Fidelity:
    """How closely a student follows its teacher.

    Attributes:
        agreement: fraction of images for which both predict the same class.
        where_right: the same, on the images that the teacher classifies correctly; None: none.
        where_wrong: the same, on the other images; None: there are none.
        kl: mean KL(teacher || student) at temperature 1, in nats.
        cka: `linear_cka` of the embeddings; None: one net has no embedding, or a constant one.
        cka_debiased: the same with `debiased=True`; None also for fewer than four images.
    """

    agreement: float
    where_right: float | None
    where_wrong: float | None
    kl: float
    cka: float | None
    cka_debiased: float | None

    def figures(self) -> dict[str, Any]:
        """Return the figures under the keys of `kd.deploy.evaluation.keys`."""
        return {
            "agreement": self.agreement,
            "agreement/teacher_right": self.where_right,
            "agreement/teacher_wrong": self.where_wrong,
            "kl": self.kl,
            "cka": self.cka,
            "cka_debiased": self.cka_debiased,
        }


def fidelity(student: Predictions, teacher: Predictions) -> Fidelity:
    """Compare predictions of the same images in the same order.

    Raises:
        UserError: the predictions are not of the same images and classes.
    """
    if student.logits.shape != teacher.logits.shape or not student.targets.equal(teacher.targets):
        raise UserError(
            f"student and teacher predict different images or classes: logits "
            f"{list(student.logits.shape)} and {list(teacher.logits.shape)}"
        )
    targets = teacher.targets
    same = student.logits.argmax(1) == teacher.logits.argmax(1)
    right = teacher.logits.argmax(1) == targets
    pair = student.embeddings, teacher.embeddings
    found = [
        None if a is None or b is None else linear_cka(a, b, debiased)
        for (a, b), debiased in ((pair, False), (pair, True))
    ]
    kl = kl_divergence(teacher.logits, student.logits)
    return Fidelity(_mean(same) or 0.0, _mean(same[right]), _mean(same[~right]), kl, *found)


def _mean(hits: Tensor) -> float | None:
    return hits.double().mean().item() if len(hits) else None


def kl_divergence(teacher: Tensor, student: Tensor) -> float:
    """Mean KL(p || q) of the softmax p of teacher's and q of student's logits [N, K], in nats.

    Example:
        >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
        0.0
    """
    for logits in (teacher, student):
        check_logits(logits, torch.zeros(len(logits), dtype=torch.int64))
    q, p = (logits.double().log_softmax(1) for logits in (student, teacher))
    return F.kl_div(q, p, log_target=True, reduction="batchmean").item()


def linear_cka(x: Tensor, y: Tensor, debiased: bool = False) -> float | None:
    """Linear centered kernel alignment of two embeddings of the same images.

    HSIC(x, y) / sqrt(HSIC(x, x) HSIC(y, y)) with HSIC(x, y) = ||xᵀy||² of the centered embeddings
    (Kornblith et al. 2019, https://arxiv.org/abs/1905.00414). This biased estimate lies in [0, 1]
    and is about sqrt(D E / ((N + D) (N + E))) for independent Gaussian embeddings. The debiased one
    takes the unbiased estimate of HSIC (Song et al. 2012, JMLR 13; Nguyen et al. 2021,
    https://arxiv.org/abs/2010.15327), is about 0 there, and may be negative.

    Args:
        x: [N, D].
        y: [N, E].
        debiased: use the unbiased estimate of HSIC.

    Returns:
        The alignment; None if an embedding is constant, or has fewer than four images and
        `debiased` is set.

    Example:
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        >>> round(linear_cka(x, 3 * x.flip(1)), 6)
        1.0
    """
    for embedding in (x, y):
        if not embedding.isfinite().all():
            raise UserError("embeddings are not finite: the net has diverged")
    if len(x) != len(y):
        raise UserError(f"embeddings are of {len(x)} and {len(y)} images")
    if debiased and len(x) < 4:
        return None
    x, y = (_centered(embedding) for embedding in (x, y))
    product, xx, yy = (_hsic(*pair, debiased) for pair in ((x, y), (x, x), (y, y)))
    return None if min(xx, yy) <= 0 else product / (xx * yy) ** 0.5


def _centered(embedding: Tensor) -> Tensor:
    """Return [N, D] minus its mean, with the largest norm of a row as the unit."""
    centered = embedding.double() - embedding.double().mean(0)
    scale = centered.norm(dim=1).max()
    # Rounding leaves a constant embedding with a norm of 1e-16 of its values.
    constant = scale <= 1e-12 * embedding.double().abs().max()
    return centered * 0 if constant else centered / scale


def _hsic(x: Tensor, y: Tensor, debiased: bool) -> float:
    """Return HSIC of centered embeddings up to a factor that depends on N alone."""
    n = len(x)
    cross = sum(a.T @ b for a, b in zip(x.split(_ROWS), y.split(_ROWS), strict=True))
    biased = torch.as_tensor(cross).square().sum().item()
    if not debiased:
        return biased
    # Song et al.'s estimate with the diagonals removed from the Gram matrices. Rows of a centered
    # Gram matrix sum to 0, so that sums of the matrix without its diagonal are those of |x|².
    a, b = x.square().sum(1), y.square().sum(1)
    paired, apart = (a @ b).item(), (a.sum() * b.sum()).item()
    return biased - n / (n - 2) * paired + apart / ((n - 1) * (n - 2))
