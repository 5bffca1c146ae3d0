"""Checks of a search's settings other than its space."""

from collections.abc import Mapping
from typing import Any

from kd.errors import UserError

_MINIMA = {"trials": 1, "seed": 0, "heartbeat": 1, "pruning.startup": 0, "pruning.warmup": 0}


def check_settings(settings: dict[str, Any]) -> None:
    """Check the values below `search` in conf/search.yaml.

    Raises:
        UserError: names every mistake.
    """
    if not isinstance(settings["pruning"], Mapping):
        given = "null" if settings["pruning"] is None else settings["pruning"]
        raise UserError(
            f"search.pruning={given}: has the keys startup and warmup, as search.pruning.startup=5"
        )
    flat = settings | {f"pruning.{k}": v for k, v in settings["pruning"].items()}
    problems = [
        f"search.{key}={flat[key]}: must be a whole number ≥ {minimum}"
        for key, minimum in _MINIMA.items()
        if type(flat[key]) is not int or flat[key] < minimum
    ]
    if not isinstance(settings["storage"], str | None):
        problems.append(f"search.storage={settings['storage']}: must be a file or a URL")
    if problems:
        raise UserError("\n  ".join(problems))
