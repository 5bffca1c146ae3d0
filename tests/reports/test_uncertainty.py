"""P(A > B), McNemar's test, agreement and the test set's error: hand-made cases."""

import re
from math import comb

import pytest
from run_folders import keep_predictions, leaderboard, report_texts, row_of, write_run, write_sweep
from scipy import stats
from support import present

from kd.reports.mcnemar import Discordant, image_test, mcnemar_p
from kd.reports.superiority import superiority


@pytest.mark.parametrize(("wins", "losses"), [(1, 9), (0, 5), (12, 12), (20, 4)])
def test_few_discordant_images_are_tested_exactly(wins, losses):
    total, few = wins + losses, min(wins, losses)
    tail = sum(comb(total, k) for k in range(few + 1)) / 2**total
    assert mcnemar_p(Discordant(wins, losses)) == pytest.approx(min(1, 2 * tail))


def test_many_discordant_images_are_tested_by_chi_squared():
    # (|40 − 10| − 1)² / 50 = 16.82
    assert mcnemar_p(Discordant(40, 10)) == pytest.approx(stats.chi2.sf(16.82, 1))
    assert mcnemar_p(Discordant(25, 25)) == 1


def test_seeds_are_combined_by_rueger():
    pairs = [Discordant(1, 9), Discordant(0, 10), Discordant(5, 5)]
    found = present(image_test(pairs))
    # p-values 0.0215, 0.00195 and 1: the second of three, times 3/2.
    assert found.p == pytest.approx(1.5 * 22 / 1024)
    assert (found.wins, found.losses) == (2, 8)
    assert image_test([]) is None
    assert present(image_test(pairs[:1])).p == mcnemar_p(pairs[0])


def test_the_image_test_is_rarely_significant_without_a_difference():
    """Of identical nets that err at random, at most 5 %, also over seeds that share a pattern."""
    wins = stats.binom.rvs(40, 0.5, size=(2000, 3), random_state=0)
    wins[:, 1] = wins[:, 0]  # two seeds with the same errors
    found = [
        present(image_test([Discordant(w, 40 - w) for w in map(int, seeds)])).p for seeds in wins
    ]
    assert sum(p <= 0.05 for p in found) / len(found) <= 0.05


def test_the_probability_of_being_better_counts_ties_half():
    found = present(superiority([0.01, -0.02, 0.0, 0.01], samples=2000, seed=0))
    assert found.probability == (1 + 0 + 0.5 + 1) / 4
    low, high = present(found.interval)
    assert low < 0.5 < high
    assert superiority([0.1], samples=10, seed=0) is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_seeds_that_all_agree_have_the_exact_binomial_interval(seeds, sign):
    found = present(superiority([sign * 0.01] * seeds, samples=10, seed=0))
    wins = seeds if sign > 0 else 0
    exact = stats.binomtest(wins, seeds).proportion_ci(0.95, method="exact")
    assert found.probability == wins / seeds
    assert found.interval == pytest.approx((exact.low, exact.high))
    if wins == 5:
        assert found.interval == pytest.approx((0.025 ** (1 / 5), 1))  # 0.48


def test_seeds_that_are_all_ties_have_no_interval():
    assert present(superiority([0.0] * 3, samples=10, seed=0)) == (0.5, None)


def test_a_report_shows_the_interval_of_a_row_that_always_wins(tmp_path):
    write_sweep(tmp_path, kd=[0.93, 0.94, 0.95, 0.96, 0.97], ce=[0.9, 0.9, 0.9, 0.91, 0.9])
    assert "| 1.00 (0.48 to 1.00) |" in report_texts(tmp_path / "r", leaderboard(tmp_path))["md"]


def test_the_columns_of_a_report(tmp_path):
    for seed, (ours, theirs) in enumerate([("1110011111", "1010111111"), ("1111100111",) * 2]):
        taught = write_run(tmp_path / f"kd{seed}", 0.8, seed=seed, **{"test/images": 10})
        alone = write_run(
            tmp_path / f"ce{seed}", 0.8, method="ce", seed=seed, **{"test/images": 10}
        )
        keep_predictions(taught, ours, "11x0x11111" if seed == 0 else "1111100111")
        keep_predictions(alone, theirs)
    board = leaderboard(tmp_path)
    kd, ce = (row_of(board, label).uncertainty for label in ("kd", "ce"))
    assert present(kd.images) == (0.5, 0.5, 1.0)  # one image each way at seed 0, none at seed 1
    # Seed 0: of the 7 images that the teacher has right the student has all; of the 3 others they
    # agree on the one where the teacher predicts class 1 as well.
    assert kd.agreement == pytest.approx(((7 / 7 + 8 / 8) / 2, (1 / 3 + 2 / 2) / 2))
    assert (ce.images, ce.agreement) == (None, None)
    assert kd.test_error == pytest.approx((0.8 * 0.2 / 10) ** 0.5)
    texts = report_texts(tmp_path / "report", board)
    heading, _, *rows = [line for line in texts["md"].splitlines() if line.startswith("| ")]
    for word in ("McNemar p", "test set error", "agreement if teacher right / wrong", "P(better)"):
        assert word in heading
        assert word in texts["html"]
    assert "seeds to tell" not in heading
    assert any("1.000 (0.5 : 0.5)" in row and "100.0 / 66.7" in row for row in rows)


def test_predictions_that_do_not_belong_to_the_result_are_left_out(tmp_path):
    for method, accuracy in (("kd", 0.8), ("ce", 0.7)):
        keep_predictions(write_run(tmp_path / method, accuracy, method=method), "1110011111")
    board = leaderboard(tmp_path)
    assert row_of(board, "kd").uncertainty.images is None
    assert "McNemar p |" not in report_texts(tmp_path / "report", board)["md"]


def test_the_level_is_that_of_all_comparisons(tmp_path):
    write_sweep(tmp_path, kd=[0.90, 0.92, 0.97], at=[0.9, 0.91, 0.99], ce=[0.90, 0.91, 0.92])
    board = leaderboard(tmp_path, detect=0.02)
    needed = present(row_of(board, "kd").uncertainty.needed)
    # Differences 0, 0.01, 0.05: s = √7/100; at 2.5 %, for two comparisons.
    effect, n = 2 / 7**0.5, present(needed.estimate)
    for seeds, enough in ((n, True), (n - 1, False)):
        bound, shift = stats.t.ppf(1 - 0.0125, seeds - 1), effect * seeds**0.5
        assert (stats.nct.sf(bound, seeds - 1, shift) >= 0.8) == enough
    assert present(needed.safe) > n
    assert re.search(rf"\| {n} to {needed.safe} \|", report_texts(tmp_path / "r", board)["md"])
