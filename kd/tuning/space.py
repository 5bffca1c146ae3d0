"""The search space: Optuna distributions, read from `search.space`."""

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from kd.errors import UserError, nearest

Range = FloatDistribution | IntDistribution
Distribution = Range | CategoricalDistribution
Space = Mapping[str, Distribution]  # by key, as on the command line

_RANGE_KEYS = ("low", "high", "log", "step")
_SCALARS = (str, int, float, bool, type(None))  # what Optuna's database can store


def read_space(configured: Mapping[str, Any] | None) -> Space:
    """Convert `search.space` to distributions.

    Args:
        configured: for each key a range `{low, high, log, step}` or a list of choices.

    Raises:
        UserError: names every mistake.

    Example:
        >>> read_space({"optimizer.lr": {"low": 0.001, "high": 0.3, "log": True}})
        {'optimizer.lr': FloatDistribution(high=0.3, log=True, low=0.001, step=None)}
        >>> read_space({"method": ["kd", "dkd"]})
        {'method': CategoricalDistribution(choices=('kd', 'dkd'))}
    """
    space: dict[str, Distribution] = {}
    problems = []
    for key, value in (configured or {}).items():
        try:
            space[key] = _distribution(value)
        except ValueError as error:
            problems.append(f"search.space, {key}: {error}")
    if not configured:
        problems.append("search.space is empty; choose one with search=…, such as search=hinton")
    if problems:
        raise UserError("\n  ".join(problems))
    return space


def contains(distribution: Distribution, value: object) -> bool:
    """Whether a trial may have this value."""
    if isinstance(distribution, CategoricalDistribution):
        # Python's own comparison would take 1 for true.
        return any(
            value == choice and isinstance(value, bool) == isinstance(choice, bool)
            for choice in distribution.choices
        )
    if not isinstance(value, int | float) or not _is_number(value):
        return False
    step = distribution.step
    on_grid = step is None or _is_whole((value - distribution.low) / step)
    return distribution.low <= value <= distribution.high and on_grid


def _distribution(value: Any) -> Distribution:
    if isinstance(value, list):
        return _choices(value)
    if not isinstance(value, dict):
        raise ValueError(f"must be {{low: …, high: …}} or a list of choices, got {value!r}")
    for name in value:
        if name not in _RANGE_KEYS:
            raise ValueError(f"a range has no {name!r}; {nearest(name, _RANGE_KEYS)}")
    if not {"low", "high"} <= value.keys():
        raise ValueError(f"a range needs low and high, got {value}")
    return _range(**value)


def _choices(values: list[Any]) -> CategoricalDistribution:
    invalid = [value for value in values if not isinstance(value, _SCALARS)]
    if invalid:
        raise ValueError(f"a choice must be a plain value, got {invalid[0]!r}")
    # Optuna finds a choice by ==, so that 1 and true, or 1 and 1.0, would be one.
    if not values or len(set(values)) < len(values):
        raise ValueError(f"choices must be given and differ, got {values}")
    return CategoricalDistribution(values)


def _range(low: Any, high: Any, log: Any = False, step: Any = None) -> Range:
    """Check what Optuna would accept silently or adjust with a warning; it raises for the rest."""
    for name, value in {"low": low, "high": high, "step": step}.items():
        if not _is_number(value) and not (name == "step" and value is None):
            raise ValueError(f"{name} must be a number, got {value!r}")
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, got {log!r}")
    if low >= high:
        raise ValueError(f"low must be < high, got {low} and {high}")
    if log and step is not None:
        raise ValueError("log and step exclude each other")
    if step is not None and step > 0 and not _is_whole((high - low) / step):
        raise ValueError(f"step must divide high - low, got {step} for {low} to {high}")
    if all(isinstance(value, int) for value in (low, high, step)):
        return IntDistribution(low, high, step=step)
    return FloatDistribution(low, high, log=log, step=step)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-8  # Optuna's own tolerance
