"""Probability that a row beats its baseline, with its bootstrap interval.

Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks"
(https://arxiv.org/abs/2103.03098).
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from kd.reports.statistics import ROUNDING, Interval, bootstrap_interval


class Superiority(NamedTuple):
    """P(A > B) over paired seeds.

    Attributes:
        probability: share of the seeds at which the row is better; ties count one half.
        interval: its 95 % percentile bootstrap interval; None if every seed says the same.
    """

    probability: float
    interval: Interval | None


def superiority(differences: Sequence[float], samples: int, seed: int) -> Superiority | None:
    """Return P(A > B), given the differences of the pairs; None below two.

    Args:
        differences: one for each common seed.
        samples: number of bootstrap resamples.
        seed: of the bootstrap.

    Example:
        >>> superiority([0.01, -0.02, 0.03, 0.01], samples=1000, seed=0).probability
        0.75
    """
    if len(differences) < 2:
        return None
    wins = [0.5 if abs(d) <= ROUNDING else float(d > 0) for d in differences]
    return Superiority(fmean(wins), bootstrap_interval(wins, samples, seed))
