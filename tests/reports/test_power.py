"""Numbers of seeds: against printed tables, by simulation, and with an uncertain spread."""

import numpy as np
import pytest
from scipy import stats
from support import present

from kd.reports.power import MAX_SEEDS, power, seeds_needed, smallest


def test_sample_sizes_of_printed_tables():
    # Cohen 1988: paired t test, two-sided 5 %, power 80 %.
    assert [smallest(d) for d in (0.2, 0.5, 0.8, 1.0)] == [199, 34, 15, 10]
    assert smallest(20.0) == 2
    assert smallest(1e-4) is None


@pytest.mark.parametrize(("effect", "seeds", "level"), [(0.5, 34, 0.05), (1.5, 5, 0.01)])
def test_the_power_is_the_share_of_tests_that_tell(effect, seeds, level):
    drawn = np.random.default_rng(0).normal(effect, 1, size=(20_000, seeds))
    share = (stats.ttest_1samp(drawn, 0, axis=1).pvalue <= level).mean()
    assert power(effect, seeds, level) == pytest.approx(share, abs=0.01)


def test_power_grows_to_one_without_a_gap():
    found = [power(effect, seeds) for effect, seeds in ((0.1, 5), (1, 50), (10, 500), (100, 9000))]
    assert found == sorted(found)
    assert found[-1] == 1.0


def test_the_spread_at_hand_is_that_of_the_differences():
    found = present(seeds_needed([0.001, -0.001], detect=0.002**0.5 / 1000))
    # s = √2/1000, so the effect is √0.001: n = (1.96 + 0.84)² / 0.001 and one or two more.
    assert present(found.estimate) == pytest.approx(7849 + 2, abs=2)
    assert found.safe is None  # √(1/0.0642) = 3.95 times the spread: more than MAX_SEEDS
    assert MAX_SEEDS == 10_000
    assert seeds_needed([0.001], 0.1) is seeds_needed([0.001, 0.001], 0.1) is None


@pytest.mark.slow
def test_the_safe_number_tells_the_difference_although_its_spread_is_estimated():
    generator, detect, told = np.random.default_rng(0), 1.0, []
    for _ in range(500):
        pilot = generator.normal(detect, 1.3, size=5)
        seeds = present(present(seeds_needed(pilot.tolist(), detect)).safe)
        told.append(stats.ttest_1samp(generator.normal(detect, 1.3, size=seeds), 0).pvalue <= 0.05)
    assert np.mean(told) >= 0.8
