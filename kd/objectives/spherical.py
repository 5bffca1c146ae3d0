"""Spherical KD: compares logits brought to one length, so that only their directions count.

    ẑ = l · (z − mean(z)) / ‖z − mean(z)‖,    l = (1/B) Σ_i ‖z_t[i] − mean(z_t[i])‖
    toward the teacher: L = T² · (1/B) Σ_i KL(softmax(ẑ_t[i] / T) ‖ softmax(ẑ_s[i] / T))
    toward the labels:  L = −(1/B) Σ_i log softmax(ẑ_s[i])[y_i]

Both nets' centred logits lie on a sphere with the teacher's average radius l, so the confidence of
either net, which is the length of its logits, has no influence. The paper takes the labels' term
on the sphere too, so that no term trains the length of the student's logits; predicted classes do
not depend on it.

Paper: Guo, Chen, Hu, Zhu, He & Cai, "Reducing the Teacher-Student Gap via Spherical Knowledge
Distillation", 2020, https://arxiv.org/abs/2010.07485.

In the paper l is the teacher's average; the authors' code has a constant instead, two or three
times √K (layer norm times a `multiplier`), and states that it makes little difference. Here l is
the average over the batch, which needs no extra pass over the data. A row of equal logits has no
direction and stays 0.

Reduction: sum over classes, mean over the batch.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from kd.objectives.checks import check_choice, check_temperature
from kd.objectives.kd import kd, kl_by_class
from kd.objectives.logits import LogitObjective
from kd.objectives.precision import upcast

AIMS = ("labels", "teacher")


def spherical(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """T²·KL of softened probabilities on the teacher's average sphere.

    Args:
        student_logits: [B, K].
        teacher_logits: [B, K].
        temperature: T > 0, for both nets.

    Returns:
        Scalar ≥ 0: sum over classes, mean over the batch.

    Example:
        The length of the student's logits does not matter:

        >>> import torch
        >>> from kd import losses
        >>> teacher = torch.tensor([[2.0, 0.0, 1.0]])
        >>> abs(losses.spherical(10 * teacher, teacher).item()) < 1e-6
        True

    Reference:
        Guo et al. 2020, https://arxiv.org/abs/2010.07485
    """
    return kd(*on_sphere(student_logits, teacher_logits), temperature)


def spherical_cross_entropy(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor
) -> Tensor:
    """Cross-entropy of the student's logits [B, K] on the teacher's sphere with labels [B]."""
    return F.cross_entropy(on_sphere(student_logits, teacher_logits)[0], target)


def on_sphere(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Centred logits [B, K] of both nets at the teacher's average length."""
    (student_directions, _), (teacher_directions, lengths) = map(directions, (student, teacher))
    radius = lengths.mean()
    return radius * student_directions, radius * teacher_directions


def directions(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Centred rows of [B, K] at unit length, and their lengths before, [B, 1]."""
    logits = upcast(logits)
    centred = logits - logits.mean(1, keepdim=True)
    # The floor: at a row of equal logits, length 0, sqrt has an infinite gradient.
    length = centred.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
    return centred / length, length


class Spherical(LogitObjective):
    """Spherical KD as a loss term, toward the teacher or toward the labels.

    Args:
        temperature: T > 0, for both nets; the labels' term has none.
        toward: `teacher` for soft targets, `labels` for cross-entropy.
        standardise: see `LogitObjective`; does not change the directions; l = √(K − 1) then.

    Raises:
        ValueError: `temperature` is out of range, or `toward` is unknown.
    """

    by_class = True
    one_device = "the sphere's radius is an average over the whole batch"

    scheduled: ClassVar = {"temperature": check_temperature}

    def __init__(
        self, temperature: float = 4.0, toward: str = "teacher", standardise: bool = False
    ) -> None:
        super().__init__(standardise)
        self.temperature = check_temperature(temperature)
        check_choice("toward", toward, AIMS)
        self.toward, self.reads_targets = toward, toward == "labels"

    @property
    def learns_labels(self) -> bool:
        return self.toward == "labels"

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        if self.toward == "labels":
            return spherical_cross_entropy(student, teacher, target)
        return spherical(student, teacher, self.temperature)

    def compare_by_class(
        self, student: Tensor, teacher: Tensor, target: Tensor, share: float
    ) -> tuple[Tensor, Tensor]:
        ours, theirs = (z / self.temperature for z in on_sphere(student, teacher))
        label, others = kl_by_class(ours, theirs, target, share)
        scale = self.temperature**2
        return scale * label.mean(), scale * others.mean()
