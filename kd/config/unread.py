"""Keys of a config that nothing reads.

Arguments of a `_target_` are checked against its signature elsewhere, and names in mappings such as
`callbacks` are free. All other keys are those of the files in `conf/`, and those that another
setting refers to as `${key}`.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from kd.config.compose import CONF_DIR

_TEACHERS_OWN = "teacher.training."  # a run like any other, without student and teacher
# Mappings from names that the user chooses
_FREE = re.compile(
    r"hydra|callbacks|logger|search\.space|(student|teacher)\.taps|"
    r"(student|teacher)\.net|data\.(view|augment)|method\.(objectives|weights|stages|schedules)"
)
# Keys that a method may have beside its knobs
METHOD_KEYS = ("name", "objectives", "weights", "stages", "schedules")
_PRIMARY = ("train", "search", "chain")
_GROUPS = {"teacher": ("teacher", "model"), "student": ("model",)}
_ROOT_GROUPS = (
    *("data", "teacher", "student", "method", "mode", "optimizer", "scheduler", "trainer"),
    *("callbacks", "logger", "paths"),
)


def unread_keys(content: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the dotted keys that nothing reads.

    Args:
        content: a composed config as plain content, with its interpolations as they are written.
        name: of the command's primary config.
    """
    texts = " ".join(interpolations(content))
    for place, key, _, shipped in _settings(content, "", _primary(name)):
        last = re.escape(key)
        path = f"{place}.{key}" if place else key
        if not shipped and not re.search(rf"\b{re.escape(path)}\b|\{{\.+{last}\b", texts):
            yield path


def wrong_kinds(content: Mapping[str, Any], name: str) -> Iterator[tuple[str, bool]]:
    """Yield keys with a single value in place of a mapping, or the reverse.

    Args:
        content: a composed config as plain content.
        name: of the command's primary config.

    Yields:
        The dotted key, and whether a mapping is expected.
    """
    for place, key, value, shipped in _settings(content, "", _primary(name)):
        kinds = {isinstance(each, Mapping) for each in shipped if each is not None}
        is_text = isinstance(value, str) and "${" in value
        if len(kinds) == 1 and not is_text and value is not None:
            (expected,) = kinds
            if isinstance(value, Mapping) != expected:
                yield (f"{place}.{key}" if place else key), expected


def _primary(name: str) -> tuple[str, ...]:
    return _PRIMARY if name in _PRIMARY else (name,)


def is_free(place: str) -> bool:
    """Whether a mapping at this place has names that the user chooses."""
    return _FREE.fullmatch(place.removeprefix(_TEACHERS_OWN)) is not None


def _settings(
    node: Mapping[str, Any], place: str, primary: tuple[str, ...]
) -> Iterator[tuple[str, str, Any, list[Any]]]:
    """Yield place, key, value and the values in `conf/` of each setting with a fixed name."""
    if "_target_" in node or is_free(place):
        return
    method = place.removeprefix(_TEACHERS_OWN) == "method"
    for key, child in node.items():
        # A file whose parts all go elsewhere leaves an empty mapping at its own place.
        if child == {}:
            continue
        shipped = [] if method else [*_shipped(place, str(key), primary)]
        if not method:
            yield place, str(key), child, shipped
        if isinstance(child, Mapping) and (shipped or method):
            yield from _settings(child, f"{place}.{key}" if place else str(key), primary)


def _shipped(place: str, key: str, primary: tuple[str, ...]) -> Iterator[Any]:
    """Yield the values that a setting has in `conf/`."""
    is_group = key in _ROOT_GROUPS and place in ("", "teacher.training")
    if key == "hydra" and not place:
        yield {}
    if is_group and (primary == _PRIMARY or key == "paths"):
        yield {}
    group, _, inner = place.removeprefix(_TEACHERS_OWN).partition(".")
    folders = _GROUPS.get(group, (group,) if group else ())
    where = [(file, place) for file in primary]
    where += [(file, inner) for file in _files(folders)]
    for file, path in where:
        keys = _keys(file, path.split(".") if path else [])
        if key in keys:
            yield keys[key]


@cache
def _files(folders: tuple[str, ...]) -> tuple[str, ...]:
    found = (path for folder in folders for path in sorted((CONF_DIR / folder).glob("*.yaml")))
    return tuple(path.relative_to(CONF_DIR).with_suffix("").as_posix() for path in found)


def _keys(file: str, path: list[str]) -> Mapping[str, Any]:
    node: Any = _document(file)
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


@cache
def _document(file: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((CONF_DIR / f"{file}.yaml").read_text(encoding="utf-8"), loader)


def interpolations(node: Any) -> Iterator[str]:
    """Yield every text of plain content that refers to another setting."""
    if isinstance(node, Mapping):
        for child in node.values():
            yield from interpolations(child)
    elif isinstance(node, list):
        for child in node:
            yield from interpolations(child)
    elif isinstance(node, str) and "${" in node:
        yield node
