"""What counts as a number in a configuration: a flag does not."""

from math import isfinite
from typing import Any


def is_number(value: Any) -> bool:
    """A finite one: nan and inf are values that no setting means."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
