"""Latency: quantiles, the number of calls, warm-up, and the mark of a noisy machine."""

import time

import numpy as np
import pytest
import torch

from kd.deploy.cost.latency import measure, summary


def test_the_time_of_a_call_is_measured():
    found = measure(lambda _: time.sleep(0.02), torch.zeros(4), threads=1)
    assert 20 <= found.p50_ms < 40  # a busy machine sleeps longer
    assert found.p50_ms <= found.p95_ms
    assert found.images_per_second == pytest.approx(4 / (found.p50_ms / 1e3))
    assert found.calls >= 2 * 10
    assert (found.batch, found.threads) == (4, 1)


def test_quantiles_are_those_of_all_calls():
    calls = np.random.default_rng(0).uniform(0.01, 0.02, (2, 50))
    found = summary(8, [*map(list, calls)], threads=1)
    assert found.p50_ms == pytest.approx(1e3 * np.median(calls), abs=1e-5)
    assert found.p95_ms == pytest.approx(1e3 * np.percentile(calls, 95), abs=1e-5)
    assert found.calls == 100


@pytest.mark.parametrize(("second", "noisy"), [(0.0114, False), (0.0116, True), (0.008, True)])
def test_measurements_that_differ_by_more_than_15_percent_are_marked(second, noisy):
    assert summary(1, [[0.01] * 5, [second] * 5], threads=1).noisy is noisy


def test_a_steady_load_is_noticed():
    """Both measurements then have the same median."""
    some_undisturbed = [[0.010, 0.012, 0.012, 0.012, 0.012] * 2] * 2
    assert summary(1, some_undisturbed, threads=1).noisy
    quiet = [[0.010, 0.011, 0.011, 0.011, 0.011] * 2] * 2
    assert not summary(1, quiet, threads=1).noisy
    assert summary(1, quiet, threads=1, busy=0.8).noisy
    assert not summary(1, quiet, threads=2, busy=1.9).noisy
    # A process that waits has no processor, whatever keeps it waiting.
    assert measure(lambda _: time.sleep(0.01), [0]).busy < 0.5


def test_the_first_calls_do_not_count(monkeypatch):
    """Compilation, allocation and cold caches make them slower."""
    seen: list[list[int]] = []
    clock = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    found = measure(seen.append, [0])
    assert len(seen) == found.calls + 3
    assert found.threads == torch.get_num_threads()


def test_an_accelerator_is_waited_for():
    waits: list[float] = []

    def wait():
        time.sleep(0.01)
        waits.append(time.time())

    found = measure(len, [0], synchronise=wait)
    assert found.p50_ms >= 10
    assert len(waits) >= found.calls
