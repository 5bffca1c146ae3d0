"""CRLD: soft targets within and across a weak and a strong view of each image.

    L = (1/B) Σ_i { w · m_w[i] · [ D(t_w, s_w) + D(t_s, s_s) ]      within a view
                  + c · m_s[i] · [ D(t_w, s_s) + D(t_s, s_w) ] }    across views

D(t, s) = T² · KL(softmax(t / T) ‖ softmax(s / T)) of the logits t of the teacher and s of the
student, in the weak (w) and the strong (s) view. m_w[i] is 1 where the teacher's largest
probability in the weak view is at least τ_w, otherwise 0; m_s[i] is the same of the strong view and
τ_s.

Paper: Zhang, Liu, Cai & Ma, "Cross-View Consistency Regularisation for Knowledge Distillation",
ACM Multimedia 2024, https://arxiv.org/abs/2412.16493. The weights, T and the thresholds are those
of the authors' code, which adds the labels' cross-entropy of both views with the weight 1 each.

Outputs have 2·B rows, those of the weak views before those of the strong ones.

Reduction: sum over classes and over the views, mean over images; masked ones count as 0.
"""

import math
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from kd.objectives.checks import check_temperature
from kd.objectives.kd import kl_by_class, kl_per_sample
from kd.objectives.logits import LogitObjective
from kd.objectives.pairs import halves
from kd.objectives.precision import upcast

Divergence = Callable[[Tensor, Tensor], Tensor]


def crld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 4.0,
    within: float = 2.0,
    across: float = 0.5,
    weak_threshold: float = 0.9,
    strong_threshold: float = 0.2,
) -> Tensor:
    """Soft targets within and across two views.

    Args:
        student_logits: [2·B, K], of the weak views before the strong ones.
        teacher_logits: [2·B, K], likewise.
        temperature: T > 0, for both nets.
        within: w ≥ 0.
        across: c ≥ 0.
        weak_threshold: τ_w, of the teacher's confidence at temperature 1.
        strong_threshold: τ_s, likewise.

    Returns:
        Scalar ≥ 0: sum over classes and views, mean over images.

    Raises:
        ValueError: the number of rows is odd.

    Example:
        A teacher that is sure in neither view has no effect within a view:

        >>> import torch
        >>> from kd import losses
        >>> teacher, student = torch.zeros(2, 3), torch.eye(3)[:2]
        >>> losses.crld(student, teacher, across=0.0).item()
        0.0

    Reference:
        Zhang et al. 2024, https://arxiv.org/abs/2412.16493
    """
    student, teacher = upcast(student_logits), upcast(teacher_logits)
    masks = confident(teacher, (weak_threshold, strong_threshold))
    return over_views(student, teacher, masks, (within, across), soft_targets(temperature))


def soft_targets(temperature: float) -> Divergence:
    """T²·KL of logits [B, K] of student and teacher by image [B]."""

    def divergence(student: Tensor, teacher: Tensor) -> Tensor:
        logs = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
        return temperature**2 * kl_per_sample(*logs)

    return divergence


def confident(teacher: Tensor, thresholds: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Masks [B] of the images in whose weak and strong views the teacher is confident."""
    weak, strong = (view.softmax(1).amax(1) for view in halves(teacher))
    return (weak >= thresholds[0]).float(), (strong >= thresholds[1]).float()


def over_views(
    student: Tensor,
    teacher: Tensor,
    masks: tuple[Tensor, Tensor],
    weights: tuple[float, float],
    divergence: Divergence,
) -> Tensor:
    """The loss from a divergence of logits [B, K] of student and teacher by image [B]."""
    (s_weak, s_strong), (t_weak, t_strong) = halves(student), halves(teacher)
    inside = divergence(s_weak, t_weak) + divergence(s_strong, t_strong)
    between = divergence(s_strong, t_weak) + divergence(s_weak, t_strong)
    return (weights[0] * masks[0] * inside + weights[1] * masks[1] * between).mean()


class CrossView(LogitObjective):
    """Soft targets within and across two views as a loss term; see `crld`.

    Args:
        temperature: T > 0, for both nets.
        within: w ≥ 0.
        across: c ≥ 0.
        weak_threshold: τ_w in [0, 1].
        strong_threshold: τ_s in [0, 1].
        standardise: see `LogitObjective`; confidences are of the teacher's logits as they are.

    Raises:
        ValueError: a setting is out of range.
    """

    two_views = True
    by_class = True
    reads_raw_logits = True
    tasks = ("image_classification",)
    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self,
        temperature: float = 4.0,
        within: float = 2.0,
        across: float = 0.5,
        weak_threshold: float = 0.9,
        strong_threshold: float = 0.2,
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        thresholds = {"weak_threshold": weak_threshold, "strong_threshold": strong_threshold}
        for name, value in {"within": within, "across": across, **thresholds}.items():
            if not 0 <= value <= (1 if name in thresholds else math.inf):
                allowed = "in [0, 1]" if name in thresholds else "≥ 0"
                raise ValueError(f"{name} must be {allowed}, got {value!r}")
        self.weights = within, across
        self.thresholds = weak_threshold, strong_threshold

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        softened = self.standardised(student), self.standardised(teacher)
        masks = confident(teacher, self.thresholds)
        return over_views(*softened, masks, self.weights, soft_targets(self.temperature))

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        softened = self.standardised(student), self.standardised(teacher)
        masks, labels = confident(teacher, self.thresholds), halves(target)[0]

        def part(number: int) -> Tensor:
            def divergence(ours: Tensor, theirs: Tensor) -> Tensor:
                pair = ours / self.temperature, theirs / self.temperature
                return self.temperature**2 * kl_by_class(*pair, labels, share)[number]

            return over_views(*softened, masks, self.weights, divergence)

        return part(0), part(1)
