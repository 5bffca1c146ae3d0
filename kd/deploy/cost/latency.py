"""Latency of one call: quantiles after warm-up, with the number of threads and a mark for noise."""

import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Sized)

# Two measurements of the same call that differ by more than this share of the smaller one were
# disturbed by another process, by the clock of the processor or by its temperature. A load that is
# the same in both shows in the fastest calls and in the processor time instead: with six other
# processes a core, medians are 1.4 to 16 times the fastest tenth, with 0.1 s of processor time a
# second.
NOISE = 0.15
_WARM_UP_CALLS, _WARM_UP_SECONDS = 3, 0.1
_CALLS, _MOST_CALLS, _SECONDS = 10, 500, 0.5  # of each of the two measurements


@dataclass(frozen=True)
class Latency:
    """Wall-clock time of one call on a batch.

    Attributes:
        batch: images of a call.
        p50_ms, p95_ms: median and 95th percentile over the calls, in milliseconds.
        images_per_second: images of a call over its median time.
        calls: number of timed calls.
        threads: CPU threads that the call may use.
        difference: relative difference of the medians of the two halves of the calls.
        spread: relative difference of the median and the fastest tenth of the calls.
        busy: processor time of this process over wall-clock time, 1 at most; 1 on an accelerator.
    """

    batch: int
    p50_ms: float
    p95_ms: float
    images_per_second: float
    calls: int
    threads: int
    difference: float
    spread: float = 0.0
    busy: float = 1.0

    @property
    def noisy(self) -> bool:
        """Whether the machine was too busy for the figures to be trusted."""
        return max(self.difference, self.spread, 1 - self.busy) > NOISE


def measure(
    run: Callable[[T], object],
    example: T,
    threads: int | None = None,
    synchronise: Callable[[], None] | None = None,
) -> Latency:
    """Time a call on a batch, in two measurements one after the other.

    Args:
        run: the call, such as a net in eval mode or a runtime's session.
        example: a batch; its length is the number of images.
        threads: that `run` uses, for the record; None: torch's.
        synchronise: waits for an accelerator, which works on after `run` has returned.

    Returns:
        The figures over the calls of both measurements.

    Example:
        >>> found = measure(net, torch.zeros(64, 3, 32, 32))  # doctest: +SKIP
        >>> found.p50_ms, found.images_per_second, found.noisy  # doctest: +SKIP
        (36.1, 1772.9, False)
    """

    def call() -> None:
        run(example)
        if synchronise is not None:
            synchronise()

    _repeat(call, _WARM_UP_CALLS, _WARM_UP_CALLS * 10, _WARM_UP_SECONDS)
    before = time.process_time()
    halves = [_repeat(call, _CALLS, _MOST_CALLS, _SECONDS) for _ in range(2)]
    busy = (time.process_time() - before) / sum(map(sum, halves)) if synchronise is None else 1.0
    return summary(len(example), halves, _torch_threads() if threads is None else threads, busy)


def summary(
    batch: int, halves: Sequence[Sequence[float]], threads: int, busy: float = 1.0
) -> Latency:
    """Summarise two measurements.

    Args:
        batch: images of a call.
        halves: seconds of each call, by measurement.
        threads: CPU threads that the call may use.
        busy: processor time over wall-clock time; several threads have more than 1.

    Example:
        >>> quiet = summary(64, [[0.010, 0.010, 0.012], [0.011, 0.011, 0.011]], threads=1)
        >>> quiet.p50_ms, round(quiet.images_per_second), round(quiet.difference, 3), quiet.noisy
        (11.0, 5818, 0.1, False)
        >>> summary(64, [[0.010], [0.012]], threads=1).noisy
        True
        >>> summary(64, [[0.010], [0.010]], threads=1, busy=0.5).noisy
        True
    """
    seconds = np.concatenate([np.asarray(half, dtype=np.float64) for half in halves])
    medians = [float(np.median(half)) for half in halves]
    p10, p50, p95 = (float(q) for q in np.quantile(seconds, [0.1, 0.5, 0.95]))
    return Latency(
        batch,
        p50_ms=round(1e3 * p50, 6),
        p95_ms=round(1e3 * p95, 6),
        images_per_second=batch / p50,
        calls=len(seconds),
        threads=threads,
        difference=(max(medians) - min(medians)) / min(medians),
        spread=p50 / p10 - 1,
        busy=min(busy, 1.0),
    )


def _repeat(call: Callable[[], None], least: int, most: int, seconds: float) -> list[float]:
    """Return the seconds of each call; it ends with the time, but not before `least` calls."""
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()
