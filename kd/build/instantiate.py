"""Instantiation of one config node; errors name its place in the config."""

import re
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException

from kd.config.targets import SLOTS, check_class, check_instance, is_target, resolve_target
from kd.errors import UserError


def make(cfg: Any, slot: str, place: str | None = None, /, **extra: Any) -> Any:
    """Call what `cfg._target_` names.

    Args:
        cfg: a config node with `_target_`; its other keys are the arguments, as plain containers.
        slot: the node's entry in `kd.config.targets.SLOTS`, which has its base class.
        place: the node's place in the config, for errors; None: `slot`.
        **extra: further keyword arguments, which are objects and therefore in no config.

    Raises:
        UserError: the target is of another base class, or refuses its arguments.
    """
    place = slot if place is None else place
    if not is_target(cfg):
        raise UserError(f"{place}: has no _target_, the name of a subclass of {SLOTS[slot]}")
    try:
        # The check of the config has done this already, but for nets that it has not seen: peers
        # and members are configs of their own.
        check_class(resolve_target(str(cfg["_target_"])), slot)
        # `instantiate` merges keyword arguments into the config; `_partial_` avoids that for
        # `extra`, which holds modules and data sets.
        built = instantiate(cfg, _convert_="all", _partial_=True)(**extra)
        check_instance(built, slot)
        return built
    except InstantiationException as error:
        raise UserError(f"{place}{_part(error, slot)}: {root_cause(error)}") from error
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"{place}: {error}") from error


def _part(error: InstantiationException, slot: str) -> str:
    """Return ".second" for an error at the entry `data.second` of `SLOTS`, in the slot `data`."""
    key = re.search(r"full_key: (\S+)$", str(error))
    return f".{key[1]}" if key and f"{slot}.{key[1]}" in SLOTS else ""


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
