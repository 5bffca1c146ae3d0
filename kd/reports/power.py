"""Number of seeds that tell a given difference, from the spread of the seeds at hand."""

from collections.abc import Sequence
from math import sqrt
from statistics import stdev
from typing import NamedTuple

from scipy import stats

from kd.reports.statistics import LEVEL, ROUNDING

POWER = 0.8  # probability of telling a difference that is there
MAX_SEEDS = 10_000
# Confidence in the upper limit of the spread. Few seeds often underestimate it, and a number of
# seeds computed from such an estimate is too small in most cases (Browne 1995).
_CONFIDENCE = 0.8


class Needed(NamedTuple):
    """Numbers of seeds; None: more than `MAX_SEEDS`.

    Attributes:
        estimate: if the differences spread as those at hand.
        safe: if they spread as the upper 80 % confidence limit.
    """

    estimate: int | None
    safe: int | None


def seeds_needed(
    differences: Sequence[float], detect: float, level: float = LEVEL
) -> Needed | None:
    """Return how many seeds tell a difference with 80 % power in a two-sided paired t test.

    The upper confidence limit of the spread follows Browne 1995, "On the use of a pilot sample for
    sample size determination" (https://doi.org/10.1002/sim.4780141709).

    Args:
        differences: one for each common seed.
        detect: the true mean difference, in their unit; positive.
        level: of the test.

    Returns:
        The numbers; None below two differences, and where all are equal.

    Example:
        >>> seeds_needed([0.001, 0.003, 0.002, 0.004], detect=0.002)
        Needed(estimate=6, safe=12)
    """
    n = len(differences)
    if n < 2 or max(differences) - min(differences) <= ROUNDING:
        return None
    spread = stdev(differences)
    limit = spread * sqrt((n - 1) / stats.chi2.ppf(1 - _CONFIDENCE, n - 1))
    return Needed(smallest(detect / spread, level), smallest(detect / limit, level))


def smallest(effect: float, level: float = LEVEL) -> int | None:
    """Return the smallest number of seeds with 80 % power; None beyond `MAX_SEEDS`.

    Args:
        effect: mean difference over standard deviation of the differences.
        level: of the test.
    """
    if power(effect, MAX_SEEDS, level) < POWER:
        return None
    low, high = 1, MAX_SEEDS  # too few, enough: power grows with the number
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, level) >= POWER else (middle, high)
    return high


def power(effect: float, seeds: int, level: float = LEVEL) -> float:
    """Return the power of the two-sided paired t test, by the noncentral t distribution.

    Example:
        >>> round(power(0.5, 34), 2)
        0.81
    """
    freedom, shift = seeds - 1, effect * sqrt(seeds)
    bound = stats.t.ppf(1 - level / 2, freedom)
    # scipy returns NaN for far tails, whose probability is 1 or 0.
    above = stats.nct.sf(bound, freedom, shift)
    below = stats.nct.cdf(-bound, freedom, shift)
    found = float(above) + (float(below) if below == below else 0.0)
    return 1.0 if found != found else found
