"""Configs of a search's trials, checked before the first one runs."""

from collections.abc import Iterator
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution, IntDistribution

from kd.config.messages import user_message
from kd.errors import UserError
from kd.tuning.space import Range, Space
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
            hint = _other_space(default) or _narrower(space, base)
            raise UserError(f"search.space, {' '.join(overrides)}: {message}{hint}") from error
    return default


def _other_space(cfg: DictConfig) -> str:
    from kd.build.data import data_task

    return "" if data_task(cfg).classifies else "; a space for boxes is search=detection"


def _narrower(space: Space, base: list[str]) -> str:
    """Which range to narrow, if its ends are refused and values inside are not."""
    for key, part in _ranges(space).items():
        inside = {end: _inside(part, end) for end in ("low", "high")}
        ends = [
            f"{end}: {value}"
            for end, value in inside.items()
            if value is not None
            and _refused(base, override(key, getattr(part, end)))
            and not _refused(base, override(key, value))
        ]
        if ends:
            return f"; or narrow the range, as 'search.space={{{key}: {{{', '.join(ends)}}}}}'"
    return ""


def _inside(part: Range, end: str) -> float | None:
    """Return a value at a twentieth of a range from one of its ends; None for whole numbers."""
    if isinstance(part, IntDistribution):
        return None
    share = 0.05 if end == "low" else 0.95
    if part.log:
        return float(f"{part.low * (part.high / part.low) ** share:.3g}")
    return float(f"{part.low + share * (part.high - part.low):.3g}")


def _refused(base: list[str], word: str) -> bool:
    from kd.validation.check import check_config

    try:
        check_config(trial_config(base, [word]))
    except Exception as error:
        if user_message(error) is None:
            raise
        return True
    return False


def _ranges(space: Space) -> dict[str, Range]:
    return {k: d for k, d in space.items() if not isinstance(d, CategoricalDistribution)}


def _corners(space: Space) -> Iterator[list[str]]:
    """All ranges at their low ends, all at their high ends, and these with each choice in turn."""
    ranges = _ranges(space)
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
