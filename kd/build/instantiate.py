"""Instantiation of one config node; errors name its place in the config."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException

from kd.config.compose import plain
from kd.config.targets import resolve_target, targets
from kd.errors import UserError


def make(cfg: Any, place: str, **extra: Any) -> Any:
    """Call what `cfg._target_` names.

    Args:
        cfg: a config node with `_target_`; its other keys are the arguments, as plain containers.
        place: the node's place in the config, for errors.
        **extra: further keyword arguments, which are objects and therefore in no config.

    Raises:
        UserError: a config may not call the target, or the target refuses its arguments.
    """
    try:
        # The check of the config has done this already, but for nets that it has not seen: peers
        # and members are configs of their own.
        for name in targets(plain(cfg)):
            resolve_target(name)
        # `instantiate` merges keyword arguments into the config; `_partial_` avoids that for
        # `extra`, which holds modules and data sets.
        return instantiate(cfg, _convert_="all", _partial_=True)(**extra)
    except InstantiationException as error:
        raise UserError(f"{place}: {root_cause(error)}") from error
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"{place}: {error}") from error


def root_cause(error: BaseException) -> BaseException:
    """Return the first exception of a chain, which Hydra wraps in its own.

    Example:
        >>> try:
        ...     raise RuntimeError("Error in call to target") from ValueError("lr must be ≥ 0")
        ... except RuntimeError as error:
        ...     root_cause(error)
        ValueError('lr must be ≥ 0')
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return error
