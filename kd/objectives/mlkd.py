"""Multi-level logit distillation: aligns instances, samples and classes at several temperatures.

    L = Σ_T [ T² · (1/B) Σ_i KL(p_t[i] ‖ p_s[i])          instances
              + w_B · (1/B) · ‖P_t P_tᵀ − P_s P_sᵀ‖²      pairs of samples, [B, B]
              + w_K · (1/K) · ‖P_tᵀ P_t − P_sᵀ P_s‖² ]    pairs of classes, [K, K]

P [B, K] holds the rows p = softmax(z / T); ‖·‖² is the sum of squares of all entries.

Paper: Jin, Wang & Lin, "Multi-Level Logit Distillation", CVPR 2023,
https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html.

The paper takes every term on a weakly and on a strongly augmented view of each image. A batch has
one view here, so the terms of the strong view are absent.

The authors' code also masks samples whose teacher confidence is above the median, and classes whose
predicted mass is above the median. It multiplies losses that are already reduced by that mask,
which merely halves them, and it gives the strong view's terms at T = 2 and 6 the weak logits.
`variant="masked"` is the evident intention: rows of P Pᵀ and of the divergence are masked by
sample, rows of PᵀP by class, and the divisors stay B and K.

Reduction: mean over the batch of the first line; the second and third are sums of squares divided
by B and by K, so the third grows with B².
"""

from collections.abc import Sequence

from torch import Tensor

from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.logits import LogitObjective
from kd.objectives.mlkd_levels import (
    EVERY,
    Masks,
    less_confident,
    levels_by_class,
    sum_of_levels,
)
from kd.objectives.pairs import ONE_BATCH
from kd.objectives.precision import upcast

VARIANTS = ("masked", "paper")
TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)  # of the authors' code for CIFAR-100


def mlkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float] = TEMPERATURES,
    sample_weight: float = 1.0,
    class_weight: float = 0.025,
    variant: str = "paper",
) -> Tensor:
    """Multi-level logit distillation on one view of each image.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperatures: every T > 0 of the sum, applied to both nets.
        sample_weight: w_B ≥ 0.
        class_weight: w_K ≥ 0. The class term grows with B² / K: the default is for B = 128, K = 10,
            the paper's 1 for B = 64, K = 100.
        variant: `paper`, or `masked`, which keeps the half of the samples and of the classes on
            which the teacher is less confident.

    Returns:
        Scalar ≥ 0. Mean over the batch for instances; sums of squares divided by B for pairs of
        samples and by K for pairs of classes.

    Raises:
        ValueError: `variant` is unknown.

    Example:
        >>> import torch
        >>> from kd import losses
        >>> student, teacher = torch.zeros(4, 3), torch.eye(4, 3)
        >>> losses.mlkd(teacher, teacher).item()
        0.0
        >>> without_classes = losses.mlkd(student, teacher, class_weight=0.0)
        >>> bool(losses.mlkd(student, teacher) > without_classes)
        True

    Reference:
        Jin et al., CVPR 2023,
        https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html
    """
    check_choice("variant", variant, VARIANTS)
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    keep = less_confident(teacher) if variant == "masked" else EVERY
    return sum_of_levels(student, teacher, keep, temperatures, (sample_weight, class_weight))


class MultiLevel(LogitObjective):
    """Multi-level logit distillation as a loss term.

    Args:
        temperatures: every T > 0 of the sum, at least one.
        sample_weight: w_B ≥ 0; 1 in the paper.
        class_weight: w_K ≥ 0; 1 in the paper.
        variant: `paper` or `masked`, see `mlkd`.
        standardise: see `LogitObjective`; the masks are of the teacher's logits as they are,
            because standardised ones limit its confidence.

    Raises:
        ValueError: a setting is out of range, or `variant` is unknown.
    """

    one_device = ONE_BATCH
    by_class = True
    reads_raw_logits = True

    def __init__(
        self,
        temperatures: Sequence[float] = TEMPERATURES,
        sample_weight: float = 1.0,
        class_weight: float = 1.0,
        variant: str = "paper",
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        if not temperatures:
            raise ValueError(f"temperatures must name at least one, got {temperatures!r}")
        check_choice("variant", variant, VARIANTS)
        self.temperatures = [check_temperature(temperature) for temperature in temperatures]
        self.variant = variant
        for name, weight in {"sample_weight": sample_weight, "class_weight": class_weight}.items():
            if weight < 0:
                raise ValueError(f"{name} must be ≥ 0, got {weight!r}")
        self.sample_weight, self.class_weight = sample_weight, class_weight

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        keep, weights = self._masks(teacher), (self.sample_weight, self.class_weight)
        ours, theirs = self.standardised(student), self.standardised(teacher)
        return sum_of_levels(ours, theirs, keep, self.temperatures, weights)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        keep, weights = self._masks(teacher), (self.sample_weight, self.class_weight)
        ours, theirs = self.standardised(student), self.standardised(teacher)
        return levels_by_class(ours, theirs, target, keep, self.temperatures, weights, share)

    def _masks(self, teacher: Tensor) -> Masks:
        return less_confident(teacher) if self.variant == "masked" else EVERY
