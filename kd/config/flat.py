"""Nested settings as flat ones with dotted keys."""

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys, as on the command line, and values; an empty mapping is a value.

    Example:
        >>> dict(flatten({"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "seed": 0}))
        {'optimizer.lr': 0.1, 'optimizer.betas': [0.9, 0.99], 'seed': 0}
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
