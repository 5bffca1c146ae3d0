"""McNemar's test: two nets on the same images, by those that only one of them has right.

McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
percentages" (https://doi.org/10.1007/BF02295996). Over several seeds the p-values are combined by
the rule of Rüger 1978, which holds for dependent tests: the seeds share their test images.
"""

from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

EXACT_BELOW = 25  # discordant images; from here on the chi-squared approximation holds


class Discordant(NamedTuple):
    """Images that one of two nets has right.

    Attributes:
        wins: the row has them right, the baseline wrong.
        losses: the other way round.
    """

    wins: int
    losses: int


class ImageTest(NamedTuple):
    """McNemar's test over the seeds of two rows.

    Attributes:
        wins: images that only the row has right, mean over seeds.
        losses: images that only the baseline has right, mean over seeds.
        p: two-sided.
    """

    wins: float
    losses: float
    p: float


def mcnemar_p(pair: Discordant) -> float:
    """Return the two-sided p-value: exact below 25 discordant images, else chi-squared.

    The latter has the continuity correction of Edwards 1948: (|wins − losses| − 1)² / sum.

    Example:
        >>> mcnemar_p(Discordant(1, 9))
        0.021484375
        >>> mcnemar_p(Discordant(0, 0))
        1.0
    """
    wins, losses = pair
    total = wins + losses
    if total < EXACT_BELOW:
        return float(stats.binomtest(wins, total).pvalue) if total else 1.0
    statistic = max(abs(wins - losses) - 1, 0) ** 2 / total
    return float(stats.chi2.sf(statistic, 1))


def image_test(pairs: Sequence[Discordant]) -> ImageTest | None:
    """Return the test over seeds; None without any.

    With n p-values in ascending order, n/k times the k-th is a p-value whatever their dependence;
    k = ⌈n/2⌉ was chosen beforehand.

    Args:
        pairs: one for each common seed.
    """
    if not pairs:
        return None
    n, half = len(pairs), (len(pairs) + 1) // 2
    p = min(1.0, n / half * sorted(map(mcnemar_p, pairs))[half - 1])
    wins, losses = (sum(counts) / n for counts in zip(*pairs, strict=True))
    return ImageTest(wins, losses, p)
