"""Schedules: values as a function of a run's progress in [0, 1].

They scale the learning rate and the weights of loss terms. Progress is the fraction of steps that
are done, not an epoch: the same schedule fits a run of 15 epochs and one of 240.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any


class Schedule(ABC):
    """A value for every progress in [0, 1], with an optional linear warm-up from 0.

    Args:
        value: factor of the whole schedule.
        warmup: fraction of the run, in [0, 1), in which the value rises linearly from 0.

    Raises:
        ValueError: `warmup` is out of range.
    """

    def __init__(self, value: float = 1.0, warmup: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must be a fraction of the run in [0, 1), got {warmup!r}")
        self.value = value
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """Return the value at `progress`."""
        if progress < self.warmup:
            return self.value * progress / self.warmup
        return self.value * self._shape(progress)

    @abstractmethod
    def _shape(self, progress: float) -> float:
        """Return the factor of `value` after the warm-up, at a progress of the run."""

    def _after_warmup(self, progress: float) -> float:
        """Return the progress of the part after the warm-up, in [0, 1]."""
        return min((progress - self.warmup) / (1 - self.warmup), 1.0)

    def bounds(self) -> tuple[float, float]:
        """Return the lowest and the highest value over the run, whatever `observe` receives.

        Sampled at every thousandth of the run: a schedule is known by its values only.

        Example:
            >>> Linear(4.0, end=0.25).bounds(), UntilPlateau(4.0).bounds()
            ((1.0, 4.0), (0.0, 4.0))
        """
        values = [self(progress) for progress in (*(n / 1000 for n in range(1001)), self.warmup)]
        if any(map(math.isnan, values)):  # which min and max would pass over
            return math.nan, math.nan
        return min(values), max(values)

    def observe(self, accuracy: float) -> None:  # noqa: B027
        """Receive an epoch's validation accuracy; most schedules ignore it."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `observe` has accumulated, as plain numbers for checkpoints."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore what `observe` had accumulated."""


class Constant(Schedule):
    """The same value throughout.

    Example:
        >>> warmup = Constant(2.0, warmup=0.2)
        >>> [warmup(p) for p in (0.0, 0.1, 0.2, 1.0)]
        [0.0, 1.0, 2.0, 2.0]
    """

    def _shape(self, progress: float) -> float:
        return 1.0


class Linear(Schedule):
    """A straight line from `begin` · `value` to `end` · `value`.

    Example:
        >>> decay = Linear(2.0, end=0.5)
        >>> [decay(p) for p in (0.0, 0.5, 1.0)]
        [2.0, 1.5, 1.0]
    """

    def __init__(
        self, value: float = 1.0, warmup: float = 0.0, begin: float = 1.0, end: float = 0.0
    ) -> None:
        super().__init__(value, warmup)
        self.begin, self.end = begin, end

    def _shape(self, progress: float) -> float:
        return self.begin + (self.end - self.begin) * self._after_warmup(progress)


class Cosine(Schedule):
    """Half a cosine from `value` to `end` · `value`.

    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
    https://arxiv.org/abs/1608.03983, without restarts.

    Example:
        >>> cosine = Cosine()
        >>> [round(cosine(p), 3) for p in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.854, 0.5, 0.0]
    """

    def __init__(self, value: float = 1.0, warmup: float = 0.0, end: float = 0.0) -> None:
        super().__init__(value, warmup)
        self.end = end

    def _shape(self, progress: float) -> float:
        angle = math.pi * self._after_warmup(progress)
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(angle))


class Step(Schedule):
    """`value`, multiplied by `gamma` at every milestone.

    Args:
        milestones: fractions of the run, ascending in (0, 1). Epochs 150, 180 and 210 of 240 are
            0.625, 0.75 and 0.875.
        gamma: factor at each milestone.
        value: as `Schedule`.
        warmup: as `Schedule`.

    Raises:
        ValueError: the milestones do not ascend within (0, 1).

    Example:
        >>> step = Step([0.5, 0.75], gamma=0.5)
        >>> [step(p) for p in (0.0, 0.5, 0.75, 1.0)]
        [1.0, 0.5, 0.25, 0.25]
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
    """`value` up to a point of the run, then 0: a term of weight 0 is not computed.

    Cho & Hariharan, "On the Efficacy of Knowledge Distillation", ICCV 2019,
    https://arxiv.org/abs/1910.01348, end the soft term early like this.

    Args:
        value: as `Schedule`.
        warmup: as `Schedule`.
        end: fraction of the run, in (warmup, 1], from which the value is 0.

    Raises:
        ValueError: `end` is out of range.

    Example:
        >>> until = Until(end=0.5)
        >>> until(0.49), until(0.5)
        (1.0, 0.0)
    """

    def __init__(self, value: float = 1.0, warmup: float = 0.0, end: float = 0.5) -> None:
        super().__init__(value, warmup)
        if not warmup < end <= 1:
            raise ValueError(f"end must be a fraction of the run in (warmup, 1], got {end!r}")
        self.end = end

    def _shape(self, progress: float) -> float:
        return float(progress < self.end)


class UntilPlateau(Schedule):
    """`value` until the validation accuracy stops rising, then 0 for the rest of the run.

    Args:
        value: as `Schedule`.
        warmup: as `Schedule`.
        patience: epochs without a gain after which the value becomes 0.
        min_delta: smallest rise in accuracy that counts as a gain.

    Raises:
        ValueError: `patience` is below 1 or `min_delta` negative.

    Example:
        >>> plateau = UntilPlateau(patience=1)
        >>> for accuracy in (0.5, 0.6, 0.6):
        ...     plateau.observe(accuracy)
        ...     print(plateau(0.5))
        1.0
        1.0
        0.0
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
        self._best, self._idle = -math.inf, 0  # best accuracy; epochs since the last gain

    def bounds(self) -> tuple[float, float]:
        lowest, highest = super().bounds()
        return min(lowest, 0.0), max(highest, 0.0)  # 0 as soon as the accuracy stops rising

    @property
    def over(self) -> bool:
        """Whether the value has become 0."""
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
    """Interpolation from `low`, where another schedule is 0, to `high`, where it is 1.

    A schedule of alpha moves all weights that alpha enters through one `Between` each, so that the
    labels gain what the soft term loses.

    Args:
        schedule: the position between the ends; shared by all weights that move together.
        low: value at 0.
        high: value at 1.

    Example:
        >>> alpha = Linear(begin=0.0, end=1.0)
        >>> hard, soft = Between(alpha, low=1.0, high=0.5), Between(alpha, low=0.0, high=0.5)
        >>> hard(0.5), soft(0.5)
        (0.75, 0.25)
    """

    def __init__(self, schedule: Schedule, low: float, high: float) -> None:
        super().__init__()
        self.schedule, self.low, self.high = schedule, low, high

    def bounds(self) -> tuple[float, float]:
        ends = [self._at(position) for position in self.schedule.bounds()]
        return min(ends), max(ends)

    def _shape(self, progress: float) -> float:
        return self._at(self.schedule(progress))

    def _at(self, position: float) -> float:
        return self.low + (self.high - self.low) * position
