"""Configs of a search's trials, checked before the first one runs."""

from collections.abc import Iterator
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution

from kd.config.messages import user_message
from kd.errors import UserError
from kd.tuning.space import Space
from kd.tuning.trial_overrides import merge_overrides, override


def trial_config(base: list[str], overrides: list[str], **flags: bool) -> DictConfig:
    """Compose the config that `kd.train` would have with both lists of overrides."""
    return compose("train", merge_overrides(base, overrides), **flags)


def check_space(space: Space, base: list[str]) -> DictConfig:
    """Check the default config, both ends of all ranges, and every choice.

    Returns:
        The default config.

    Raises:
        UserError: names the values and the mistake in the config that has them.
    """
    from kd.validation.check import check_config

    default = trial_config(base, [])
    check_config(default)
    for overrides in _corners(space):
        try:
            check_config(trial_config(base, overrides))
        except Exception as error:
            message = user_message(error)
            if message is None:
                raise
            raise UserError(
                f"search.space, {' '.join(overrides)}: {message}{_other_space(default)}"
            ) from error
    return default


def _other_space(cfg: DictConfig) -> str:
    from kd.build.data import data_task

    return "" if data_task(cfg).classifies else "; a space for boxes is search=detection"


def _corners(space: Space) -> Iterator[list[str]]:
    """All ranges at their low ends, all at their high ends, and these with each choice in turn."""
    ranges = {k: d for k, d in space.items() if not isinstance(d, CategoricalDistribution)}
    yield [override(key, part.low) for key, part in ranges.items()]
    high = [override(key, part.high) for key, part in ranges.items()]
    yield high
    for key, part in space.items():
        if isinstance(part, CategoricalDistribution):
            yield from ([override(key, choice), *high] for choice in part.choices)


def default_values(space: Space, base: list[str]) -> dict[str, Any]:
    """Return the values that the space's keys have in the default config."""
    cfg = trial_config(base, [], return_hydra_config=True)
    options = cfg.hydra.runtime.choices  # the chosen option of each config group
    return {key: options[key] if key in options else OmegaConf.select(cfg, key) for key in space}
