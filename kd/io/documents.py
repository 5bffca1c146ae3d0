"""JSON and YAML files as plain values: bounded in size, depth and numbers, and nothing but data.

What YAML has beyond JSON can be used to exhaust memory or to build other objects: aliases, merge
keys, tags. None of what `kd` writes has any, so a file with them is refused.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml

from kd.errors import UserError
from kd.io.regular_files import read_text

MAX_YAML = 2_000_000  # bytes; a run's config has about 10 000
# Bytes. Per-class accuracies of 21 841 classes take 1 MB; 16 MB of "[]," become 0.4 GB in memory.
MAX_JSON = 16_000_000
MAX_DEPTH = 60  # of nested lists and mappings; a config has about 10 levels
_LARGEST = 2**63  # numbers beyond would overflow a float or a tensor sooner or later
_LONGEST_NUMBER = 40  # characters of an unquoted YAML number; reading one takes quadratic time
_NUMBER = re.compile(r"[-+]?(0[bx][0-9a-fA-F_]+|[0-9_:.eE+-]+)")
# libyaml's parser is about ten times as fast, which counts for hundreds of runs.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_LOADER):
    """Leaves a date as text, as OmegaConf does; 2026-99-99 is no error then."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":timestamp")]
        for first, pairs in _LOADER.yaml_implicit_resolvers.items()
    }


def read_json(path: Path, limit: int = MAX_JSON) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Raises:
        UserError: it is no regular file, too large, too deeply nested, or no JSON.
        OSError: it is missing or cannot be read.
    """
    return _in_file(path, parse_json, read_text(path, limit))


def read_yaml(path: Path, limit: int = MAX_YAML) -> Any:
    """Read a YAML file of plain values, without aliases, merge keys and tags.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Raises:
        UserError: it is no regular file, too large, too deeply nested, or no such YAML.
        OSError: it is missing or cannot be read.
    """
    return _in_file(path, parse_yaml, read_text(path, limit))


def read_yaml_text(path: Path, limit: int = MAX_YAML) -> str:
    """Return the text of a YAML file that `read_yaml` accepts, for another parser (OmegaConf's).

    Raises:
        UserError: see `read_yaml`.
        OSError: it is missing or cannot be read.
    """
    text = read_text(path, limit)
    _in_file(path, parse_yaml, text)
    return text


def parse_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        UserError: it is no JSON, too deeply nested, or has a number beyond 64 bits.

    Example:
        >>> parse_json('{"test/acc": 0.9}')
        {'test/acc': 0.9}
        >>> parse_json("[" * 100 + "]" * 100)
        Traceback (most recent call last):
        kd.errors.UserError: it is nested more than 60 levels deep
    """
    try:
        return _bounded(json.loads(text))
    except RecursionError:
        raise _too_deep() from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"it is no JSON: {error}") from None


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values.

    Raises:
        UserError: it is no YAML, or has aliases, merge keys, tags, deep nesting, or a number beyond
            64 bits.

    Example:
        >>> parse_yaml("method: {name: kd, temperature: 4.0}")
        {'method': {'name': 'kd', 'temperature': 4.0}}
        >>> parse_yaml("a: &x [1]\\nb: *x")
        Traceback (most recent call last):
        kd.errors.UserError: line 1: an anchor, which a config of plain values does not have
    """
    try:
        _check_events(yaml.parse(text, Loader=_PlainLoader))
        return _bounded(yaml.load(text, Loader=_PlainLoader))
    except yaml.YAMLError as error:
        raise UserError(f"it is no YAML: {_one_line(error)}") from None
    except RecursionError:
        raise _too_deep() from None
    except UserError:
        raise
    except (ValueError, TypeError) as error:  # of a malformed number, or of an unhashable key
        raise UserError(f"it is no YAML of plain values: {error}") from None


def _one_line(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = "" if mark is None else f"line {mark.line + 1}: "
    return where + (problem or " ".join(str(error).split()))


def _check_events(events: Iterator[Any]) -> None:
    depth = 0
    for event in events:
        if obstacle := _obstacle(event):
            line = event.start_mark.line + 1
            raise UserError(
                f"line {line}: {obstacle}, which a config of plain values does not have"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _too_deep()


def _obstacle(event: Any) -> str | None:
    if isinstance(event, yaml.AliasEvent):
        return "an alias"
    if getattr(event, "anchor", None) is not None:
        return "an anchor"
    if getattr(event, "tag", None) is not None:
        return f"the tag {event.tag:.60}"
    if isinstance(event, yaml.ScalarEvent) and event.implicit[0]:  # unquoted
        if event.value in ("<<", "="):
            return f"the key {event.value}"
        if len(event.value) > _LONGEST_NUMBER and _NUMBER.fullmatch(event.value):
            return f"a number of {len(event.value)} characters"
    return None


def _bounded(content: Any) -> Any:
    """Return the content, unless it is nested too deeply or has too large a number."""
    level, depth = [content], 0
    while level:
        if depth > MAX_DEPTH:
            raise _too_deep()
        for value in level:
            if isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
                raise UserError("it has a whole number of more than 64 bits")
        level = [child for value in level for child in _children(value)]
        depth += 1
    return content


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else ()


def _too_deep() -> UserError:
    return UserError(f"it is nested more than {MAX_DEPTH} levels deep")


def _in_file(path: Path, parse: Any, text: str) -> Any:
    try:
        return parse(text)
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
