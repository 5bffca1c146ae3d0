"""Sampling of trials: reproducible over kills, restarts and workers."""

from typing import Any

import numpy as np
from optuna import Study, Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from kd.tuning.space import Distribution, Space


class SeededByTrial(BaseSampler):
    """Tree-structured Parzen estimators with a seed for every trial.

    A proposal is a function of the seed, the trial's number and the trials that are finished: not
    of the process that draws it, nor of the values that a killed process had stored already. With
    one generator for the whole search, a resumed search and every further worker would draw the
    same numbers again.

    Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization,
    https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization.

    Args:
        seed: of the search.
        space: distributions by key, which are drawn in this order.
    """

    def __init__(self, seed: int, space: Space) -> None:
        self.seed, self.space = seed, dict(space)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw all values of a trial at once."""
        (state,) = np.random.SeedSequence([self.seed, trial.number]).generate_state(1)
        tpe = TPESampler(seed=int(state))
        joint = tpe.infer_relative_search_space(study, trial)
        drawn = tpe.sample_relative(study, trial, joint)
        for key, part in search_space.items():
            if key not in drawn and not part.single():
                drawn[key] = tpe.sample_independent(study, trial, key, part)
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self.sample_relative(study, trial, dict(self.space))[param_name]


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
