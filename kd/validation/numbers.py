"""Tests for numbers in a config: YAML's `true` is an int in Python, but not a number here."""

from math import isfinite
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a value is a finite number.

    Example:
        >>> [is_number(value) for value in (1, 0.5, True, "1", float("nan"))]
        [True, True, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)
