"""Checks of the settings of objectives."""

from collections.abc import Sequence

MAX_TEMPERATURE = 1e6  # T² stays finite in float32, whose largest number is 3.4e38


def check_temperature(temperature: float) -> float:
    """Return `temperature` as a float.

    Raises:
        ValueError: it is not a number in (0, 1e6].
    """
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not temperature > 0:
        raise ValueError(f"temperature must be a number > 0, got {temperature!r}")
    if temperature > MAX_TEMPERATURE:
        raise ValueError(f"temperature must be ≤ {MAX_TEMPERATURE:g}, got {temperature!r}")
    return float(temperature)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Check that the setting `name` has one of the values in `choices`.

    Raises:
        ValueError: it has another value.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}")
