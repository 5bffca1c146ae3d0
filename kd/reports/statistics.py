"""Confidence intervals and paired tests over seeds, with Holm's correction.

Student 1908, the t distribution (https://doi.org/10.2307/2331554); Efron 1979, the bootstrap
(https://doi.org/10.1214/aos/1176344552); Holm 1979, a simple sequentially rejective multiple test
procedure (https://www.jstor.org/stable/4615733).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # probability of any wrong verdict in a report
# Accuracies are means of zeros and ones in float32 (relative rounding error 6e-8); differences
# below this are rounding.
ROUNDING = 2e-7

BETTER, WORSE, SAME = "better", "worse", "cannot distinguish"
Interval = tuple[float, float]


class Paired(NamedTuple):
    """A row compared with its baseline over the seeds that both have.

    Attributes:
        seeds: number of common seeds.
        mean: mean difference; positive where the row is better.
        interval: bootstrap interval of the mean difference; None below two seeds or without spread.
        p: two-sided p-value of the paired t test; None below two seeds.
        p_holm: the p-value corrected for all comparisons of the report.
        verdict: `better`, `worse` or `cannot distinguish`; None below two seeds.
        differences: one for each common seed, in the order of the seeds.
    """

    seeds: int
    mean: float
    interval: Interval | None
    p: float | None
    p_holm: float | None
    verdict: str | None
    differences: tuple[float, ...]


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % confidence interval of the mean of normally distributed values.

    Returns:
        Lower and upper end; None below two values, and where all are equal.

    Example:
        >>> low, high = t_interval([0.90, 0.92, 0.94])
        >>> round(low, 4), round(high, 4)
        (0.8703, 0.9697)
    """
    if len(values) < 2 or _all_equal(values):
        return None
    interval = stats.ttest_1samp(values, 0).confidence_interval(1 - LEVEL)
    return float(interval.low), float(interval.high)


def _all_equal(values: Sequence[float]) -> bool:
    """Whether the sample has no spread from which the population's could be estimated."""
    return max(values) - min(values) <= ROUNDING


def paired_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the paired t test, given the differences of the pairs.

    Equal differences have a standard error of zero, and the t test would be certain. On a small
    test set they occur by chance, so the exact sign-flip test takes its place: of the 2^n
    equally likely assignments of signs, two are as extreme as the observed one.

    Returns:
        The p-value; None below two differences.

    Example:
        >>> round(paired_p([0.01, 0.02, 0.03]), 4)
        0.0742
        >>> paired_p([0.01, 0.01, 0.01])
        0.25
    """
    if len(differences) < 2:
        return None
    if _all_equal(differences):
        zero = abs(differences[0]) <= ROUNDING
        return 1.0 if zero else float(2.0 ** (1 - len(differences)))
    return float(stats.ttest_1samp(differences, 0).pvalue)


def bootstrap_interval(differences: Sequence[float], samples: int, seed: int) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of the mean difference.

    Args:
        differences: one for each seed.
        samples: number of resamples.
        seed: of the resampling.

    Returns:
        Lower and upper end; None below two differences, and where all are equal.
    """
    if len(differences) < 2 or _all_equal(differences):
        return None
    # Percentiles rather than BCa, scipy's default: its acceleration is a third moment over leave-
    # one-out means, which three to five seeds do not estimate.
    interval = stats.bootstrap(
        (np.asarray(differences),),
        np.mean,
        n_resamples=samples,
        confidence_level=1 - LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values.

    With p-values in ascending order, the corrected one of rank i of m is the maximum of
    (m - j + 1)·p_j over all j ≤ i, at most 1.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    corrected, greatest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = greatest
    return corrected


def compare(differences: Sequence[Sequence[float]], samples: int, seed: int) -> list[Paired]:
    """Test all comparisons of a report together.

    Args:
        differences: for each comparison, one difference for each common seed (at least one).
        samples: number of bootstrap resamples.
        seed: of the bootstrap.
    """
    p_values = [paired_p(d) for d in differences]
    # Comparisons that cannot be tested do not count: they would only weaken all others.
    tested = [i for i, p in enumerate(p_values) if p is not None]
    corrected = dict(zip(tested, holm([p for p in p_values if p is not None]), strict=True))
    return [
        Paired(
            seeds=len(found),
            mean=float(np.mean(found)),
            interval=bootstrap_interval(found, samples, seed),
            p=p_values[i],
            p_holm=corrected.get(i),
            verdict=None if i not in corrected else verdict_of(float(np.mean(found)), corrected[i]),
            differences=tuple(found),
        )
        for i, found in enumerate(differences)
    ]


def verdict_of(mean: float, p: float) -> str:
    """Return `better`, `worse` or `cannot distinguish` for a mean difference and its p-value."""
    if p > LEVEL:
        return SAME
    return BETTER if mean > 0 else WORSE
