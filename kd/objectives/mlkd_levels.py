"""Terms of multi-level logit distillation before reduction, and their sums over temperatures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd.objectives.kd import kl_by_class, kl_per_sample
from kd.objectives.pairs import full_precision

Masks = tuple[Tensor | float, Tensor | float]  # of the samples [B] and of the classes [K]
EVERY = (1.0, 1.0)  # masks that keep all samples and classes


def sum_of_levels(
    student: Tensor,
    teacher: Tensor,
    keep: Masks,
    temperatures: Sequence[float],
    weights: tuple[float, float],
) -> Tensor:
    """Sum of the three terms over temperatures, of logits [B, K].

    Args:
        student: [B, K].
        teacher: [B, K].
        keep: masks of the samples [B] and of the classes [K], as `less_confident` returns.
        temperatures: every T > 0.
        weights: w_B and w_K.
    """
    sample_weight, class_weight = weights
    terms = []
    # Differences of products lose their digits in bfloat16.
    with full_precision(student):
        for temperature in temperatures:
            divergence, by_sample, by_class = levels(student, teacher, temperature)
            terms.append((keep[0] * (divergence + sample_weight * by_sample)).mean())
            terms.append((keep[1] * class_weight * by_class).mean())
    return torch.stack(terms).sum()


def levels_by_class(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    keep: Masks,
    temperatures: Sequence[float],
    weights: tuple[float, float],
    share: float,
) -> tuple[Tensor, Tensor]:
    """As `sum_of_levels` in the parts of `Objective.class_terms`; pairs belong to the second."""
    sample_weight, class_weight = weights
    labels, others = [], []
    with full_precision(student):
        for temperature in temperatures:
            label, rest = kl_by_class(student / temperature, teacher / temperature, target, share)
            _, by_sample, by_class = levels(student, teacher, temperature)
            pairs = (keep[0] * sample_weight * by_sample).mean()
            pairs = pairs + (keep[1] * class_weight * by_class).mean()
            labels.append(temperature**2 * (keep[0] * label).mean())
            others.append(temperature**2 * (keep[0] * rest).mean() + pairs)
    return torch.stack(labels).sum(), torch.stack(others).sum()


def levels(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms before reduction, at one temperature.

    Returns:
        T²·KL [B], squared differences of P Pᵀ summed by sample [B], and of PᵀP by class [K].
    """
    log_student, log_teacher = ((z / temperature).log_softmax(1) for z in (student, teacher))
    p_s, p_t = log_student.exp(), log_teacher.exp()
    by_sample = (p_t @ p_t.T - p_s @ p_s.T).square().sum(1)
    by_class = (p_t.T @ p_t - p_s.T @ p_s).square().sum(1)
    return temperature**2 * kl_per_sample(log_student, log_teacher), by_sample, by_class


def less_confident(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Masks [B] and [K] of the samples and classes up to the teacher's median confidence.

    A sample's confidence is its largest probability, a class's the sum of its probabilities.
    """
    probabilities = teacher.softmax(1)
    confidence, mass = probabilities.amax(1), probabilities.sum(0)
    samples, classes = (value <= value.quantile(0.5) for value in (confidence, mass))
    return samples.float(), classes.float()
