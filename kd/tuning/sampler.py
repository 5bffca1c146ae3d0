"""Sampling of trials: reproducible over restarts and workers."""

from typing import Any

import numpy as np
from optuna import Study, Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from kd.tuning.space import Distribution


class SeededByTrial(BaseSampler):
    """Tree-structured Parzen estimators with a seed for every trial.

    Random numbers depend on the seed and the trial's number alone. With one generator for the
    whole search, a resumed search and every further worker would draw the same numbers again.

    Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization,
    https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization.

    Args:
        seed: of the search.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.number: int | None = None

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self.number:
            (state,) = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)
            self.number, self.tpe = trial.number, TPESampler(seed=int(state))
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


def suggest(trial: Trial, key: str, distribution: Distribution) -> Any:
    """Draw a trial's value for a key.

    A continuous value is rounded to four significant digits, so that the printed command line
    repeats the trial exactly.
    """
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    low, high, step = distribution.low, distribution.high, distribution.step
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step)
    value = trial.suggest_float(key, low, high, step=step, log=distribution.log)
    if step is not None:
        return value
    return min(max(float(f"{value:.4g}"), low), high)
