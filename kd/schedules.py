"""Numbers as a function of a run's progress from 0 (first step) to 1 (last step).

The learning rate's factor is one, and so may be the weight of any loss term. Progress, not epochs:
the same schedule fits a run of 15 epochs and one of 240.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class Schedule(ABC):
    """A value for every progress in [0, 1], with an optional linear warm-up from 0.

    Args:
        value: the value at full height.
        warmup: the share of the run, in [0, 1), over which the value rises linearly from 0.
    """

    def __init__(self, value: float = 1.0, warmup: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must be a share of the run in [0, 1), got {warmup!r}")
        self.value = value
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return self.value * progress / self.warmup
        return self.value * self._shape(progress)

    def _after_warmup(self, progress: float) -> float:
        return min((progress - self.warmup) / (1 - self.warmup), 1.0)

    def observe(self, accuracy: float) -> None:  # noqa: B027
        """Take note of an epoch's validation accuracy; most schedules follow progress alone."""

    def state_dict(self) -> dict[str, Any]:
        """What was taken note of, for checkpoints: plain numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from a checkpoint's notes."""

    @abstractmethod
    def _shape(self, progress: float) -> float:
        """The factor of `value` at `progress`, once the warm-up is over."""


class Constant(Schedule):
    """The same value throughout."""

    def _shape(self, progress: float) -> float:
        return 1.0


class Linear(Schedule):
    """A straight line from `begin * value` to `end * value`."""

    def __init__(
        self, value: float = 1.0, warmup: float = 0.0, begin: float = 1.0, end: float = 0.0
    ) -> None:
        super().__init__(value, warmup)
        self.begin, self.end = begin, end

    def _shape(self, progress: float) -> float:
        return self.begin + (self.end - self.begin) * self._after_warmup(progress)


class Cosine(Schedule):
    """Half a cosine from `value` to `end * value` (Loshchilov & Hutter 2017, without restarts)."""

    def __init__(self, value: float = 1.0, warmup: float = 0.0, end: float = 0.0) -> None:
        super().__init__(value, warmup)
        self.end = end

    def _shape(self, progress: float) -> float:
        angle = math.pi * self._after_warmup(progress)
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(angle))


class Step(Schedule):
    """`value`, times `gamma` at every milestone passed.

    Args:
        milestones: shares of the run, ascending in (0, 1); 150, 180 and 210 of 240 epochs are
            0.625, 0.75 and 0.875.
        gamma: the factor at each.
    """

    def __init__(
        self,
        milestones: Sequence[float],
        gamma: float = 0.1,
        value: float = 1.0,
        warmup: float = 0.0,
    ) -> None:
        super().__init__(value, warmup)
        if list(milestones) != sorted(milestones) or not all(0 < m < 1 for m in milestones):
            raise ValueError(f"milestones must ascend within (0, 1), got {list(milestones)!r}")
        self.milestones = list(milestones)
        self.gamma = gamma

    def _shape(self, progress: float) -> float:
        return float(self.gamma ** sum(progress >= milestone for milestone in self.milestones))


class Until(Schedule):
    """`value`, and from a point of the run on nothing: the term is left out, and so is its cost.

    Early-stopped distillation (Cho & Hariharan 2019) ends the soft term so.

    Args:
        end: the share of the run, in (0, 1], after which nothing is left.
    """

    def __init__(self, value: float = 1.0, warmup: float = 0.0, end: float = 0.5) -> None:
        super().__init__(value, warmup)
        if not warmup < end <= 1:
            raise ValueError(f"end must be a share of the run in (warmup, 1], got {end!r}")
        self.end = end

    def _shape(self, progress: float) -> float:
        return float(progress < self.end)


class UntilPlateau(Schedule):
    """`value`, until validation has stopped gaining: from then on nothing, for good.

    Args:
        patience: the epochs without a gain after which it ends.
        min_delta: what counts as a gain, in accuracy.
    """

    def __init__(
        self, value: float = 1.0, warmup: float = 0.0, patience: int = 5, min_delta: float = 0.0
    ) -> None:
        super().__init__(value, warmup)
        if patience < 1 or min_delta < 0:
            raise ValueError(
                f"patience must be ≥ 1 and min_delta ≥ 0, got {patience!r} and {min_delta!r}"
            )
        self.patience, self.min_delta = patience, min_delta
        self._best, self._idle = -math.inf, 0

    @property
    def over(self) -> bool:
        return self._idle >= self.patience

    def observe(self, accuracy: float) -> None:
        if self.over:
            return
        gained = accuracy > self._best + self.min_delta
        self._best = max(self._best, accuracy)
        self._idle = 0 if gained else self._idle + 1

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "idle": self._idle}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best, self._idle = state["best"], state["idle"]

    def _shape(self, progress: float) -> float:
        return float(not self.over)


class Between(Schedule):
    """From `low`, where another schedule is 0, to `high`, where it is 1.

    So a schedule of alpha moves the weights that alpha enters: what the soft term gives up, the
    labels get.

    Args:
        schedule: the share of the way; shared by all weights that move together.
        low, high: the ends.
    """

    def __init__(self, schedule: Schedule, low: float, high: float) -> None:
        super().__init__()
        self.schedule, self.low, self.high = schedule, low, high

    def _shape(self, progress: float) -> float:
        return self.low + (self.high - self.low) * self.schedule(progress)
