"""Probability that a row beats its baseline, with its interval.

Bouthillier et al. 2021, "Accounting for Variance in Machine Learning Benchmarks"
(https://arxiv.org/abs/2103.03098). If every seed says the same, their bootstrap has no spread, and
the exact interval of a binomial share takes its place: Clopper and Pearson 1934
(https://doi.org/10.1093/biomet/26.4.404).
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from scipy import stats

from kd.reports.statistics import LEVEL, ROUNDING, Interval, bootstrap_interval


class Superiority(NamedTuple):
    """P(A > B) over paired seeds.

    Attributes:
        probability: share of the seeds at which the row is better; ties count one half.
        interval: its 95 % percentile bootstrap interval, and Clopper and Pearson's if the row wins
            at every seed or at none; None if all seeds are ties.
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
    interval = bootstrap_interval(wins, samples, seed) or _exact_interval(wins)
    return Superiority(fmean(wins), interval)


def _exact_interval(wins: Sequence[float]) -> Interval | None:
    """The interval of a share of 0 or 1; ties are neither wins nor losses."""
    if wins[0] not in (0, 1):
        return None
    exact = stats.binomtest(int(sum(wins)), len(wins)).proportion_ci(1 - LEVEL, method="exact")
    return float(exact.low), float(exact.high)
