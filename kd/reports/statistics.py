"""Whether a difference over a few seeds is one: intervals, paired tests, Holm's correction.

Student 1908: the t distribution; Efron 1979: the bootstrap; Holm 1979: a simple sequentially
rejective multiple test procedure.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05  # of an error anywhere in the report
# Accuracies are means of 0 and 1 in float32; smaller differences are rounding.
_ROUNDING = 2e-7

BETTER, WORSE, SAME = "better", "worse", "cannot distinguish"
Interval = tuple[float, float]


class Paired(NamedTuple):
    """A row against its baseline, over the seeds both have.

    Attributes:
        seeds: how many these are.
        mean: the mean difference; positive where the row is better.
        interval: bootstrap interval of the mean difference; None below two seeds or without spread.
        p: two-sided p-value of the paired t test; None below two seeds.
        p_holm: corrected for all comparisons of the report.
        verdict: `better`, `worse` or `cannot distinguish`; None below two seeds.
        differences: one a seed, in order of the seeds.
    """

    seeds: int
    mean: float
    interval: Interval | None
    p: float | None
    p_holm: float | None
    verdict: str | None
    differences: tuple[float, ...]


def t_interval(values: Sequence[float]) -> Interval | None:
    """The 95 % interval of the mean of normal values; None below two, and where all are equal."""
    if len(values) < 2 or _equal(values):
        return None
    error = stats.sem(values)
    half = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1)) * error
    mean = float(np.mean(values))
    return mean - half, mean + half


def _equal(values: Sequence[float]) -> bool:
    """Whether values have no spread from which theirs in general could be estimated."""
    return max(values) - min(values) <= _ROUNDING


def paired_p(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of no mean difference; None below two seeds.

    The paired t test. Where all differences are equal it would be certain of anything, which on a
    small test set happens by chance: there the exact test by flipping signs, 2^(1 - n).
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return None
    if _equal(differences):
        return 1.0 if abs(values[0]) <= _ROUNDING else float(2.0 ** (1 - len(values)))
    t = float(values.mean() / (values.std(ddof=1) / np.sqrt(len(values))))
    return float(2 * stats.t.sf(abs(t), len(values) - 1))


def bootstrap_interval(differences: Sequence[float], samples: int, seed: int) -> Interval | None:
    """Percentile interval of the mean over resampled seeds; None as for `t_interval`."""
    if len(differences) < 2 or _equal(differences):
        return None
    means = resampled_means(differences, samples, seed)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def resampled_means(values: Sequence[float], samples: int, seed: int) -> NDArray[np.float64]:
    """Means [samples] of as many values drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(samples, len(values)))
    means: NDArray[np.float64] = np.asarray(values, dtype=float)[drawn].mean(axis=1)
    return means


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's p-values: that of rank i of m is the greatest (m - j + 1)·p_j with j ≤ i, up to 1."""
    corrected, greatest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = greatest
    return corrected


def compare(differences: Sequence[Sequence[float]], samples: int, seed: int) -> list[Paired]:
    """Judge all comparisons of a report together.

    Args:
        differences: for each comparison one difference a common seed, at least one.
        samples: of the bootstrap.
        seed: of the bootstrap.
    """
    p_values = [paired_p(d) for d in differences]
    tested = [i for i, p in enumerate(p_values) if p is not None]
    corrected = dict(zip(tested, holm([p for p in p_values if p is not None]), strict=True))
    return [
        Paired(
            seeds=len(found),
            mean=float(np.mean(found)),
            interval=bootstrap_interval(found, samples, seed),
            p=p_values[i],
            p_holm=corrected.get(i),
            verdict=_verdict(float(np.mean(found)), corrected.get(i)),
            differences=tuple(found),
        )
        for i, found in enumerate(differences)
    ]


def _verdict(mean: float, p_holm: float | None) -> str | None:
    if p_holm is None:
        return None
    if p_holm > LEVEL:
        return SAME
    return BETTER if mean > 0 else WORSE
