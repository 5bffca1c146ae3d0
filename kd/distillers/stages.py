"""Stages of a run, with the weights and scheduled settings of the loss terms at every step."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from kd.schedules import Between, Schedule

Weight = float | Schedule
Settings = Mapping[str, Mapping[str, Schedule]]


class Stage(NamedTuple):
    """A contiguous part of a run with its own loss terms.

    name: passed to the objectives (`Objective.enter`); empty if the method has a single stage.
    fraction: of the run's steps, in (0, 1].
    weights: weight of each term by name. A schedule is evaluated on the progress of the stage, not
        of the run.
    """

    name: str
    fraction: float
    weights: Mapping[str, Weight]


class Plan:
    """Consecutive stages that make up a run.

    Args:
        stages: at least one; their fractions sum to 1.
        settings: factors of settings of the terms as functions of the run's progress: by the name
            of the term, then by the attribute of its objective.

    Raises:
        ValueError: a fraction is not positive, or they do not sum to 1.

    Example:
        >>> plan = Plan([Stage("hint", 0.25, {"hint": 100.0}), Stage("kd", 0.75, {"soft": 1.0})])
        >>> plan.weights(0.1), plan.weights(0.5)
        ({'hint': 100.0}, {'soft': 1.0})
    """

    def __init__(self, stages: Sequence[Stage], settings: Settings | None = None) -> None:
        total = sum(stage.fraction for stage in stages)
        if abs(total - 1) > 1e-6 or any(stage.fraction <= 0 for stage in stages):
            fractions = {stage.name: stage.fraction for stage in stages}
            raise ValueError(f"stage fractions must be > 0 and sum to 1, got {fractions}")
        self.stages = list(stages)
        self.settings = settings or {}
        self._base: dict[tuple[nn.Module, str], float] = {}  # configured values

    @property
    def terms(self) -> list[str]:
        """Names of the terms of all stages, without duplicates."""
        return list(dict.fromkeys(name for stage in self.stages for name in stage.weights))

    def at(self, progress: float) -> tuple[Stage, float]:
        """Return the stage at a run's progress in [0, 1], and the progress of that stage."""
        begin = 0.0
        for stage in self.stages[:-1]:
            if progress < begin + stage.fraction:
                return stage, (progress - begin) / stage.fraction
            begin += stage.fraction
        last = self.stages[-1]
        return last, min((progress - begin) / last.fraction, 1.0)

    def weights(self, progress: float) -> dict[str, float]:
        """Return the nonzero weights at a run's progress; terms of weight 0 are not computed.

        If all weights are 0 (the first step of a warm-up), all terms are returned, because a step
        needs a loss to call `backward` on.
        """
        stage, done = self.at(progress)
        now = {k: w(done) if isinstance(w, Schedule) else w for k, w in stage.weights.items()}
        return {name: weight for name, weight in now.items() if weight} or now

    def set_settings(self, terms: Mapping[str, nn.Module], progress: float) -> None:
        """Set the scheduled settings of the objectives.

        Args:
            terms: the objectives of all pairings by name, as in `Distiller.terms`.
            progress: of the run, in [0, 1].
        """
        for term, objective in terms.items():
            for attribute, schedule in self.settings.get(term.rpartition("/")[2], {}).items():
                configured: float = getattr(objective, attribute)
                base = self._base.setdefault((objective, attribute), configured)
                setattr(objective, attribute, base * schedule(progress))

    @property
    def schedules(self) -> list[Schedule]:
        """All schedules of weights and settings, without duplicates, in a fixed order."""
        weights = [weight for stage in self.stages for weight in stage.weights.values()]
        settings = [by for schedules in self.settings.values() for by in schedules.values()]
        # The two weights that follow one schedule of alpha share it through their `Between`s.
        shared = [w.schedule if isinstance(w, Between) else w for w in (*weights, *settings)]
        return list(dict.fromkeys(s for s in shared if isinstance(s, Schedule)))

    def observe(self, accuracy: float) -> None:
        """Pass an epoch's validation accuracy, in [0, 1], to every schedule."""
        for schedule in self.schedules:
            schedule.observe(accuracy)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all schedules, for checkpoints."""
        return {"schedules": [schedule.state_dict() for schedule in self.schedules]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the states of all schedules."""
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
