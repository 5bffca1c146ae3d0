"""Labels of rows: the settings in which they differ."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kd.io.printable import printable
from kd.reports.settings import ROLES, Settings

MAX_LABEL = 400  # characters; a stranger's setting can have any length


def labels(rows: Sequence[Settings]) -> list[str]:
    """Label each row with its method and the settings in which rows differ.

    Settings of a group such as `method.temperature` are compared among rows with the same
    `method`; all other settings among rows on the same data.

    Example:
        >>> base = {"teacher": "vgg8", "student": "vgg8", "mode": "offline", "data": "digits"}
        >>> labels([base | {"method": "kd", "method.temperature": t} for t in (2.0, 4.0)])
        ['kd, temperature=2', 'kd, temperature=4']
    """
    # A run without a teacher (`none`) is no reason to name the teacher of all others.
    named = [role for role in ROLES[1:] if len({r[role] for r in rows} - {"none"}) > 1]
    knobs = _differing(rows)
    short = _short_names(set().union(*knobs))
    text = {key: _formatter(rows, key) for key in short}
    found = []
    for settings, own in zip(rows, knobs, strict=True):
        words = [str(settings["method"])]
        words += [f"{k}={settings[k]}" for k in named if settings[k] != "none"]
        words += [f"{short[key]}={text[key](settings[key])}" for key in own if key in settings]
        found.append(printable(", ".join(words), MAX_LABEL))
    return found


def _differing(rows: Sequence[Settings]) -> list[list[str]]:
    """Find, for each row, the keys whose values differ among the rows that it is compared with."""
    values: dict[tuple[Any, str], dict[Any, int]] = defaultdict(Counter)
    sizes: Counter[Any] = Counter()
    for settings in rows:
        sizes.update({_scope(settings, role) for role in ROLES})
        for key, value in settings.items():
            if key not in ROLES:
                values[_scope(settings, key), key][value] += 1
    # A key that some rows lack differs as well: its count falls short of the number of rows.
    constant = {pair for pair, seen in values.items() if max(seen.values()) == sizes[pair[0]]}
    return [
        [k for k in settings if k not in ROLES and (_scope(settings, k), k) not in constant]
        for settings in rows
    ]


def _scope(settings: Settings, key: str) -> tuple[str, Any]:
    """Identify the rows among which a key is compared: of the same method, say, or data."""
    group = key.split(".", 1)[0]
    role = group if group in ROLES else "data"
    return role, settings[role]


def _short_names(keys: Iterable[str]) -> dict[str, str]:
    """Shorten each key to its last word if that is unique; `data.view._target_` to `view`."""
    paths = {key: key.removesuffix("._target_") for key in keys}
    words = Counter(path.rsplit(".", 1)[-1] for path in paths.values())
    last = {key: path.rsplit(".", 1)[-1] for key, path in paths.items()}
    return {key: last[key] if words[last[key]] == 1 else path for key, path in paths.items()}


def _formatter(rows: Sequence[Settings], key: str) -> Callable[[Any], str]:
    """Return `shown`, or `str` if different values would look the same (moved classes)."""
    values = {settings[key] for settings in rows if key in settings}
    return shown if len({shown(value) for value in values}) == len(values) else str


def shown(value: Any) -> str:
    """Format a setting for a label: 4 for 4.0, a class without its module."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace('"', "").rsplit(".", 1)[-1] if _is_class(value) else str(value)


def _is_class(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value))
