"""Multi-level logit distillation on two views of each image, as its paper has it.

    L = ½ · [ L_mlkd(weak views) + L_mlkd(strong views) ]

L_mlkd aligns instances, samples and classes at several temperatures; see `kd.objectives.mlkd`. The
pairs of samples are those of one view, and the masks of `variant="masked"` are those of each view's
own teacher logits.

Paper: Jin, Wang & Lin, "Multi-Level Logit Distillation", CVPR 2023,
https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html.

The paper adds the terms of the two views, and the labels' cross-entropy of both; here both are
means over the views, half of it, so that `alpha` has the same meaning as with one view. In the
authors' code the strong view's instance terms at T = 2 and 6 compare the weak logits, and its pairs
of samples and classes are computed and left out. Its masks are those of the weak view alone, and
the strong view has none.

Outputs have 2·B rows, those of the weak views before those of the strong ones.

Reduction: as `mlkd` in a view; mean over the views.
"""

from collections.abc import Sequence

from torch import Tensor

from kd.objectives.mlkd import TEMPERATURES, MultiLevel, mlkd
from kd.objectives.pairs import halves


def mlkd_views(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = TEMPERATURES,
    sample_weight: float = 1.0,
    class_weight: float = 0.025,
    variant: str = "paper",
) -> Tensor:
    """Multi-level logit distillation, mean of two views.

    Args:
        student_logits: [2·B, K], of the weak views before the strong ones.
        teacher_logits: [2·B, K], likewise.
        temperatures: as `mlkd`.
        sample_weight: as `mlkd`.
        class_weight: as `mlkd`.
        variant: as `mlkd`.

    Returns:
        Scalar ≥ 0, as `mlkd`.

    Raises:
        ValueError: the number of rows is odd, or `variant` is unknown.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.zeros(4, 3), torch.eye(3)[[0, 1, 0, 1]]
        >>> one = losses.mlkd(student[:2], teacher[:2])
        >>> torch.allclose(losses.mlkd_views(student, teacher), one)
        True

    Reference:
        Jin et al., CVPR 2023,
        https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html
    """
    settings = (temperatures, sample_weight, class_weight, variant)
    views = zip(halves(student_logits), halves(teacher_logits), strict=True)
    weak, strong = (mlkd(student, teacher, *settings) for student, teacher in views)
    return (weak + strong) / 2


class TwoViewMultiLevel(MultiLevel):
    """Multi-level logit distillation on two views as a loss term; arguments as `MultiLevel`."""

    two_views = True
    tasks = ("image_classification",)

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        views = zip(*(halves(rows) for rows in (student, teacher, target)), strict=True)
        weak, strong = (super(TwoViewMultiLevel, self).compare(*view) for view in views)
        return (weak + strong) / 2

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        own, (weak, strong) = super().compare_by_class, halves(target)
        ours, theirs = halves(student), halves(teacher)
        first = own(ours[0], theirs[0], weak, share)
        second = own(ours[1], theirs[1], strong, share)
        return (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
