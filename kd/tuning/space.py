"""What a search varies: ranges and choices for any key of the configuration, and any option."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd.errors import UserError, nearest

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included.

    Args:
        low: the smallest.
        high: the largest.
        log: drawn evenly by their logarithm.
        step: their distance; where it, low and high are whole, so are the numbers.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        for name, value in {"low": self.low, "high": self.high, "step": self.step}.items():
            if not _is_number(value) and not (name == "step" and value is None):
                raise ValueError(f"{name} must be a number, got {value!r}")
        if not isinstance(self.log, bool):
            raise ValueError(f"log must be true or false, got {self.log!r}")
        if self.low >= self.high:
            raise ValueError(f"low must be < high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"with log, low must be > 0, got {self.low}")
        if self.step is not None:
            self._check_step(self.step)

    def _check_step(self, step: float) -> None:
        if self.log:
            raise ValueError("log and step exclude each other")
        if step <= 0 or not _is_whole((self.high - self.low) / step):
            raise ValueError(f"step must be > 0 and lead from low to high, got {step}")

    @property
    def whole(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step))

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not _is_number(value):
            return False
        on_grid = self.step is None or _is_whole((value - self.low) / self.step)
        return self.low <= value <= self.high and on_grid


@dataclass(frozen=True)
class Choices:
    """Some values, or some options of a group.

    Args:
        values: plain values, each once.
    """

    values: tuple[str | int | float | bool | None, ...]

    def __post_init__(self) -> None:
        strange = [value for value in self.values if not isinstance(value, _SCALARS)]
        if strange:
            raise ValueError(f"a choice must be a plain value, got {strange[0]!r}")
        if not self.values or len(set(map(_typed, self.values))) < len(self.values):
            raise ValueError(f"the choices must be some, and differ, got {list(self.values)}")

    def __contains__(self, value: object) -> bool:
        return _typed(value) in map(_typed, self.values)


Space = dict[str, Range | Choices]


def read_space(configured: Mapping[str, Any]) -> Space:
    """Turn `search.space` into ranges and choices by key.

    Raises:
        UserError: names every mistake in it.
    """
    space: Space = {}
    problems = []
    for key, value in configured.items():
        try:
            space[key] = _read(value)
        except ValueError as error:
            problems.append(f"search.space, {key}: {error}")
    if not configured:
        problems.append("search.space is empty; choose one with search=…, such as search=hinton")
    if problems:
        raise UserError("\n  ".join(problems))
    return space


def _read(value: Any) -> Range | Choices:
    if isinstance(value, list):
        return Choices(tuple(value))
    if not isinstance(value, dict):
        raise ValueError(f"must be {{low: …, high: …}} or a list of choices, got {value!r}")
    valid = tuple(Range.__dataclass_fields__)
    for name in value:
        if name not in valid:
            raise ValueError(f"a range has no {name!r}; {nearest(name, valid)}")
    if not {"low", "high"} <= value.keys():
        raise ValueError(f"a range needs low and high, got {value}")
    return Range(**value)


def override(key: str, value: Any) -> str:
    """`key=value` as the command line takes it."""
    if isinstance(value, str):
        plain = _WORD.fullmatch(value) and value.lower() not in ("true", "false", "null", "nan")
        text = value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return f"{key}={text}"
    return f"{key}={json.dumps(value)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-8


def _typed(value: object) -> tuple[bool, object]:
    """Tell true from 1, but not 1 from 1.0."""
    return isinstance(value, bool), value
