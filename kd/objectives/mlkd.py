"""Samples, their likenesses and the likenesses of classes, at several temperatures.

    L = Σ_T [ T² · (1/B) Σ_i KL(p_t[i] ‖ p_s[i])          instances
              + w_B · (1/B) · ‖P_t P_tᵀ − P_s P_sᵀ‖²      samples with samples, [B, B]
              + w_K · (1/K) · ‖P_tᵀ P_t − P_sᵀ P_s‖² ]    classes with classes, [K, K]

P [B, K] holds the rows p = softmax(z / T); ‖·‖² sums the squares of all entries.

Jin, Wang & Lin, "Multi-Level Logit Distillation", 2023. The matrices are not divided by what they
sum over, so the third line grows with the batch. The paper takes every term on a weak and a strong
view of each image; a batch has one view here, and the strong one is left out.

The authors' code also drops, by a mask, the samples of which the teacher is surer than of the
median sample, and the classes it believes in more than in the median class. It multiplies losses
that are summed already by that mask, which only halves them, and gives the terms of the strong
view at T = 2 and 6 the weak logits. `variant="masked"` is what was meant: rows of P Pᵀ and of the
divergence are dropped by sample, rows of PᵀP by class, and the divisors stay B and K.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kd.objectives.base import LogitObjective, check_temperature
from kd.objectives.pairs import ONE_BATCH

_VARIANTS = ("masked", "paper")


def levels(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """T²·KL by sample [B], and the matrices' squared distances by sample [B] and by class [K]."""
    log_ours, log_theirs = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    divergence = F.kl_div(log_ours, log_theirs, log_target=True, reduction="none").sum(1)
    ours, theirs = log_ours.exp(), log_theirs.exp()
    by_sample = (theirs @ theirs.T - ours @ ours.T).square().sum(1)
    by_class = (theirs.T @ theirs - ours.T @ ours).square().sum(1)
    return temperature**2 * divergence, by_sample, by_class


def doubtful(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of samples [B] and classes [K] in which the teacher believes no more than median."""
    probabilities = teacher.softmax(1)
    sureness, mass = probabilities.amax(1), probabilities.sum(0)
    samples, classes = (value <= value.quantile(0.5) for value in (sureness, mass))
    return samples.float(), classes.float()


class MultiLevel(LogitObjective):
    """Instances, samples and classes aligned, summed over temperatures.

    Args:
        temperatures: every T > 0 of the sum.
        sample_weight: w_B ≥ 0; 1 in the paper.
        class_weight: w_K ≥ 0; 1 in the paper.
        variant: `paper`, or `masked`, which keeps what the teacher is less sure of.
        standardise: as `LogitObjective`.
    """

    one_device = ONE_BATCH

    def __init__(
        self,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        sample_weight: float = 1.0,
        class_weight: float = 1.0,
        variant: str = "paper",
        standardise: bool = False,
    ) -> None:
        super().__init__(standardise)
        if not temperatures:
            raise ValueError(f"temperatures must name at least one, got {temperatures!r}")
        if variant not in _VARIANTS:
            raise ValueError(f"variant must be one of {list(_VARIANTS)}, got {variant!r}")
        self.temperatures = [check_temperature(temperature) for temperature in temperatures]
        self.variant = variant
        for name, weight in {"sample_weight": sample_weight, "class_weight": class_weight}.items():
            if weight < 0:
                raise ValueError(f"{name} must be ≥ 0, got {weight!r}")
        self.sample_weight, self.class_weight = sample_weight, class_weight

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        keep = doubtful(teacher) if self.variant == "masked" else (1.0, 1.0)
        terms = []
        # Differences of products lose their digits in bfloat16.
        with torch.autocast(student.device.type, enabled=False):
            for temperature in self.temperatures:
                divergence, by_sample, by_class = levels(student, teacher, temperature)
                terms.append((keep[0] * (divergence + self.sample_weight * by_sample)).mean())
                terms.append((keep[1] * self.class_weight * by_class).mean())
        return torch.stack(terms).sum()
