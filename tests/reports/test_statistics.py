"""Intervals, paired tests and Holm's correction, against scipy, by hand and by simulation."""

import numpy as np
import pytest
from scipy import stats
from support import present

from kd.reports.statistics import bootstrap_interval, compare, holm, paired_p, t_interval


def test_intervals_and_p_values_match_scipy():
    ours, base = [0.91, 0.92, 0.90, 0.94, 0.93], [0.90, 0.89, 0.91, 0.91, 0.90]
    assert paired_p(np.subtract(ours, base).tolist()) == pytest.approx(
        stats.ttest_rel(ours, base).pvalue
    )
    expected = stats.t.interval(0.95, 4, loc=np.mean(ours), scale=stats.sem(ours))
    assert t_interval(ours) == pytest.approx(expected)


def test_the_t_distribution_by_printed_tables():
    # Mean 2, standard error 1/√3, 2 degrees of freedom: t(0.975) = 4.303.
    half = 4.303 / 3**0.5
    assert t_interval([1, 2, 3]) == pytest.approx((2 - half, 2 + half), abs=1e-3)
    # t = 2√3 = 3.46 lies between t(0.95) = 2.920 and t(0.975).
    assert 0.05 < present(paired_p([1, 2, 3])) < 0.1


def test_too_few_or_equal_values_have_no_interval():
    assert t_interval([0.9]) is None
    assert t_interval([0.9, 0.9]) is None
    assert paired_p([0.1]) is None


def test_equal_differences_get_the_exact_sign_flip_test():
    assert paired_p([0.0, 0.0, 0.0]) == 1
    assert paired_p([0.25, 0.25]) == 0.5
    assert paired_p([1 / 360] * 5) == 1 / 16
    exact = stats.permutation_test(
        ([1 / 360] * 5,), np.mean, permutation_type="samples", n_resamples=32
    )
    assert paired_p([1 / 360] * 5) == pytest.approx(exact.pvalue)
    (paired,) = compare([[1 / 360] * 5], samples=10, seed=0)
    assert paired.verdict == "cannot distinguish"


def test_bootstrap_intervals_by_hand():
    values = [0.0, 1.0, 2.0]
    # Of the 27 samples of three values, one has mean 0 and one has mean 2. Each has probability
    # 1/27, more than 2.5 %, so the interval reaches from end to end.
    assert bootstrap_interval(values, samples=20000, seed=0) == (0, 2)
    # Of 0 and 1, four times each, the number of ones is binomial(8, 1/2): P(≤ 0) = 0.004,
    # P(≤ 1) = 0.035.
    assert bootstrap_interval([0.0, 1.0] * 4, samples=20000, seed=0) == (1 / 8, 7 / 8)
    assert bootstrap_interval([0.3], samples=10, seed=0) is None


def test_bootstrap_intervals_are_reproducible():
    values = [0.0, 1.0, 2.0, 5.0]
    assert bootstrap_interval(values, 50, seed=1) == bootstrap_interval(values, 50, seed=1)
    # As in reports made before scipy drew the samples: default_rng(seed), one row a sample.
    drawn = np.random.default_rng(1).integers(4, size=(50, 4))
    expected = np.quantile(np.asarray(values)[drawn].mean(axis=1), [0.025, 0.975])
    assert bootstrap_interval(values, 50, seed=1) == pytest.approx(tuple(expected))


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; the third is 0.06, hence the fourth too.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1, 1]
    assert holm([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("images", [None, 360], ids=["exact", "360 images"])
def test_equal_methods_rarely_get_a_verdict(images):
    """20 methods with one distribution, five seeds, one baseline: at most 5 % of reports err."""
    draw = np.random.default_rng(0)
    without = 0
    for _ in range(200):
        accuracy = draw.normal(0.9, 0.01, size=(21, 5))
        if images:
            accuracy = np.float32(np.round(accuracy * images) / images).astype(float)
        found = compare(list(accuracy[1:] - accuracy[0]), samples=2, seed=0)
        without += all(paired.verdict == "cannot distinguish" for paired in found)
    assert without >= 0.93 * 200, without


def test_a_real_difference_is_found():
    draw = np.random.default_rng(1)
    differences = [list(draw.normal(0.03 * (i == 0), 0.002, size=5)) for i in range(20)]
    found = compare(differences, samples=50, seed=0)
    assert found[0].verdict == "better"
    assert present(found[0].interval)[0] > 0.02
