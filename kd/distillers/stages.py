"""What is trained when: the stages of a run, and the weights of the terms in each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from kd.schedules import Between, Schedule

Weight = float | Schedule


class Stage(NamedTuple):
    """A part of a run with terms of its own.

    name: told to the objectives (`Objective.enter`); empty where a method has one stage only.
    weight: of the run's steps, in (0, 1].
    weights: of the terms that count in it; a schedule runs over the stage, not over the run.
    """

    name: str
    weight: float
    weights: Mapping[str, Weight]


class Plan:
    """The stages of a run, one behind the other.

    Args:
        stages: at least one; their pairing_weights make 1.
        temperature: factor of every objective's temperature over the run; None: 1.
    """

    def __init__(self, stages: Sequence[Stage], temperature: Schedule | None = None) -> None:
        total = sum(stage.weight for stage in stages)
        if abs(total - 1) > 1e-6 or any(stage.weight <= 0 for stage in stages):
            pairing_weights = {stage.name: stage.weight for stage in stages}
            raise ValueError(
                f"the stages' pairing_weights must be > 0 and make 1, got {pairing_weights}"
            )
        self.stages = list(stages)
        self.temperature = temperature
        self._base: dict[nn.Module, float] = {}  # temperatures as configured

    @property
    def terms(self) -> list[str]:
        """The names of the terms that count in any stage."""
        return list(dict.fromkeys(name for stage in self.stages for name in stage.weights))

    def at(self, progress: float) -> tuple[Stage, float]:
        """The stage at a run's progress in [0, 1], and how much of it is done, in [0, 1]."""
        begin = 0.0
        for stage in self.stages[:-1]:
            if progress < begin + stage.weight:
                return stage, (progress - begin) / stage.weight
            begin += stage.weight
        last = self.stages[-1]
        return last, min((progress - begin) / last.weight, 1.0)

    def weights(self, progress: float) -> dict[str, float]:
        """The terms that count at a run's progress; a weight of 0 leaves a term out.

        Where all are 0, as at the foot of a warm-up, they stay, so that there is a loss.
        """
        stage, done = self.at(progress)
        now = {k: w(done) if isinstance(w, Schedule) else w for k, w in stage.weights.items()}
        return {name: weight for name, weight in now.items() if weight} or now

    def set_temperatures(self, objectives: Iterable[nn.Module], progress: float) -> None:
        """Give the objectives that have a temperature that of this progress."""
        if self.temperature is None:
            return
        factor = self.temperature(progress)
        for objective in objectives:
            own: Any = getattr(objective, "temperature", None)
            if isinstance(own, float):
                vars(objective)["temperature"] = self._base.setdefault(objective, own) * factor

    @property
    def schedules(self) -> list[Schedule]:
        """All schedules of weights and temperatures, each once, in a fixed order."""
        weights = [weight for stage in self.stages for weight in stage.weights.values()]
        moved = [w.schedule if isinstance(w, Between) else w for w in (*weights, self.temperature)]
        return list(dict.fromkeys(s for s in moved if isinstance(s, Schedule)))

    def observe(self, accuracy: float) -> None:
        """Tell the schedules the validation accuracy of an epoch that has just ended."""
        for schedule in self.schedules:
            schedule.observe(accuracy)

    def state_dict(self) -> dict[str, Any]:
        return {"schedules": [schedule.state_dict() for schedule in self.schedules]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for schedule, then in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(then)
