"""How a search proposes its next trial."""

from typing import Any

import numpy as np
from optuna import Study, Trial
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from kd.tuning.space import Choices, Range


class SeededByTrial(BaseSampler):
    """Tree-structured Parzen estimators (Bergstra et al. 2011), random numbers anew a trial.

    They depend on the seed and the trial's number alone. One generator for the whole search would
    draw the same again after a resume, and in every worker.

    Args:
        seed: of the search.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.number: int | None = None

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self.number:
            (drawn,) = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)
            self.number, self.tpe = trial.number, TPESampler(seed=int(drawn))
        return self.tpe

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def suggested(trial: Trial, key: str, part: Range | Choices) -> Any:
    """The trial's value for a key; four digits of it, unless there is a step."""
    if isinstance(part, Choices):
        return trial.suggest_categorical(key, part.values)
    if part.whole:
        low, high, step = int(part.low), int(part.high), int(part.step or 1)
        return trial.suggest_int(key, low, high, step=step)
    value = trial.suggest_float(key, part.low, part.high, step=part.step, log=part.log)
    if part.step is not None:
        return value
    return min(max(float(f"{value:.4g}"), part.low), part.high)
