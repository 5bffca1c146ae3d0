"""Collecting mistakes of a config, so that all of them are reported at once."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from kd.errors import UserError

Part = TypeVar("Part")


def refuse(problems: Iterable[str]) -> None:
    """Raise one error that lists all problems, if there are any.

    Raises:
        UserError: at least one problem.

    Example:
        >>> refuse([])
        >>> refuse(["seed=-1: must be ≥ 0", "compile=fast: no such mode"])
        Traceback (most recent call last):
        ...
        kd.errors.UserError: 2 mistakes in the configuration
          seed=-1: must be ≥ 0
          compile=fast: no such mode
    """
    if found := list(problems):
        raise UserError(listed(found))


def listed(problems: Sequence[str]) -> str:
    """One message for at least one problem."""
    count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return "\n  ".join([f"{count} in the configuration", *problems])


def attempt(problems: list[str], build: Callable[[], Part], prefix: str = "") -> Part | None:
    """Build a part; if that fails, append the reason to `problems` after `prefix`."""
    try:
        return build()
    except UserError as error:
        problems.append(f"{prefix}{error}")
        return None
