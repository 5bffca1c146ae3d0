"""Numbers as a function of a run's progress from 0 (first step) to 1 (last step).

The learning rate's factor is one, and so may be the weight of any loss term. Progress, not epochs:
the same schedule fits a run of 15 epochs and one of 240.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence


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

    @abstractmethod
    def _shape(self, progress: float) -> float:
        """The factor of `value` at `progress`, once the warm-up is over."""


class Constant(Schedule):
    """The same value throughout."""

    def _shape(self, progress: float) -> float:
        return 1.0


class Linear(Schedule):
    """A straight line from `value` to `end * value`."""

    def __init__(self, value: float = 1.0, warmup: float = 0.0, end: float = 0.0) -> None:
        super().__init__(value, warmup)
        self.end = end

    def _shape(self, progress: float) -> float:
        return 1.0 + (self.end - 1.0) * self._after_warmup(progress)


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
