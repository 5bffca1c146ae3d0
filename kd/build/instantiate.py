"""Instantiation of one config node, with the config's place in every error."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException

from kd.config.compose import plain
from kd.config.targets import resolve_target, targets
from kd.errors import UserError


def make(cfg: Any, place: str, **extra: Any) -> Any:
    """Call what `cfg._target_` names with plain keyword arguments and `extra`.

    Raises:
        UserError: the target refuses its arguments; names the config's place.
    """
    try:
        for name in targets(plain(cfg)):  # also of nets that no check of the config has seen
            resolve_target(name)
        return instantiate(cfg, _convert_="all", _partial_=True)(**extra)
    except InstantiationException as error:
        raise UserError(f"{place}: {root_cause(error)}") from error
    except (ValueError, TypeError, ImportError, MisconfigurationException) as error:
        raise UserError(f"{place}: {error}") from error


def root_cause(error: BaseException) -> BaseException:
    """The first exception of a chain: what really happened, below Hydra's wrapping."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
