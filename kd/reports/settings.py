"""What a run was told, flat, and which of it tells one row of a report from another."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from kd.config.identity import NO_PART_OF_NUMBERS

Settings = dict[str, Any]
ROLES = ("method", "teacher", "student", "mode", "data")

_IGNORED = {*NO_PART_OF_NUMBERS, "seed", "hydra"}  # rows are equal up to the seed
_IGNORED_ENDS = (".enable_progress_bar", ".enable_model_summary", ".log_every_n_steps")
_NAMES = {f"{role}.name" for role in ROLES}  # the roles themselves
# A top-level key begins a part of the file; a list below one is written without indentation.
_PART = re.compile(r"^(?=[^\s#-])", re.MULTILINE)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_settings(text: str, teacherless: bool) -> Settings:
    """The settings in a run's `config.yaml` by their names on the command line, unresolved.

    Unresolved, since `data.seed: ${seed}` is then the same for all seeds.

    Args:
        text: what the file holds.
        teacherless: no teacher had a part in the run, so that its settings say nothing.

    Raises:
        ValueError: the text is no config.
    """
    found: Settings = {}
    for part in _PART.split(text):
        found.update(_flat_part(part))
    ignored = _IGNORED | ({"teacher"} if teacherless else set())
    return {k: v for k, v in found.items() if not _is_ignored(k, ignored)}


def _is_ignored(key: str, parts: set[str]) -> bool:
    return key.split(".", 1)[0] in parts or key.endswith(_IGNORED_ENDS) or key in _NAMES


@cache
def _flat_part(text: str) -> tuple[tuple[str, Any], ...]:
    """A part of a config; most parts are alike in a whole sweep, and are parsed once."""
    try:
        content = yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {error}") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"no settings: {text[:40]!r}")
    return tuple(_flat(content or {}))


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _scalar(value)


def _scalar(value: Any) -> Any:
    """Something that is equal for equal settings: 4 and 4.0 are, 1 and true are not."""
    if isinstance(value, bool | list) or value is None:
        return json.dumps(value)
    return value


def labels(rows: Sequence[Settings]) -> list[str]:
    """Name each row by what differs between rows: its method, other names, then knobs.

    A part's knobs (`method.temperature`) count as differing among rows with the same name of that
    part (`method=kd`), all others among rows on the same data.
    """
    named = [role for role in ROLES[1:] if len({r[role] for r in rows} - {"none"}) > 1]
    knobs = _differing(rows)
    short = _short_names(set().union(*knobs))
    found = []
    for settings, own in zip(rows, knobs, strict=True):
        words = [str(settings["method"])]
        words += [f"{k}={settings[k]}" for k in named if settings[k] != "none"]
        words += [f"{short[key]}={shown(settings[key])}" for key in own if key in settings]
        found.append(", ".join(words))
    return found


def _differing(rows: Sequence[Settings]) -> list[list[str]]:
    """For each row the keys whose values differ between it and the rows it is compared with."""
    values: dict[tuple[Any, str], dict[Any, int]] = defaultdict(Counter)
    sizes: Counter[Any] = Counter()
    for settings in rows:
        sizes.update({_among(settings, role) for role in ROLES})
        for key, value in settings.items():
            if key not in ROLES:
                values[_among(settings, key), key][value] += 1
    alike = {place for place, seen in values.items() if max(seen.values()) == sizes[place[0]]}
    return [
        [k for k in settings if k not in ROLES and (_among(settings, k), k) not in alike]
        for settings in rows
    ]


def _among(settings: Settings, key: str) -> tuple[str, Any]:
    """The rows among which a key is compared: those with the same method, or the same data."""
    part = key.split(".", 1)[0]
    role = part if part in ROLES else "data"
    return role, settings[role]


def _short_names(keys: Iterable[str]) -> dict[str, str]:
    """The last word of each key where that is enough; `view` for `data.view._target_`."""
    paths = {key: key.removesuffix("._target_") for key in keys}
    words = Counter(path.rsplit(".", 1)[-1] for path in paths.values())
    last = {key: path.rsplit(".", 1)[-1] for key, path in paths.items()}
    return {key: last[key] if words[last[key]] == 1 else path for key, path in paths.items()}


def shown(value: Any) -> str:
    """A setting as a label has it: 4 for 4.0, a class without its module."""
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace('"', "").rsplit(".", 1)[-1] if _is_class(value) else str(value)


def _is_class(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value))
