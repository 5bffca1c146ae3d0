"""Command-line overrides of a search's trials."""

import json
import re
from collections.abc import Sequence
from typing import Any

_PLAIN_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LITERALS = ("true", "false", "null", "nan", "inf")  # words that Hydra's grammar converts


def override(key: str, value: Any) -> str:
    """Format `key=value` in Hydra's override grammar, which keeps the value's type.

    https://hydra.cc/docs/advanced/override_grammar/basic/

    Example:
        >>> override("method", "kd"), override("optimizer.lr", 0.1), override("name", "true")
        ('method=kd', 'optimizer.lr=0.1', "name='true'")
    """
    if isinstance(value, str):
        plain = _PLAIN_WORD.fullmatch(value) and value.lower() not in _LITERALS
        text = value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return f"{key}={text}"
    return f"{key}={json.dumps(value)}"


def without_search(overrides: Sequence[str]) -> list[str]:
    """Drop the overrides of the search itself; the rest holds for each of its runs.

    Example:
        >>> without_search(["method=dkd", "search=method", "search.trials=3"])
        ['method=dkd']
    """
    return [text for text in overrides if not _key(text).startswith(("search.", "search="))]


def merge_overrides(base: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Append overrides to `base`, without those of `base` whose key they set as well.

    Example:
        >>> merge_overrides(["method=dkd", "optimizer.lr=1"], ["optimizer.lr=2"])
        ['method=dkd', 'optimizer.lr=2']
    """
    replaced = {text.partition("=")[0] for text in overrides}
    kept = [text for text in base if _key(text).partition("=")[0] not in replaced]
    return [*kept, *overrides]


def _key(text: str) -> str:
    """Return an override without its `+` or `~`; a deletion (`~key`) gets a trailing `=`."""
    return (text if "=" in text else f"{text}=").lstrip("+~")
