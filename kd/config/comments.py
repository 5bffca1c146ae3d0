"""Comments of YAML files, by the setting that they explain."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from kd.config.compose import CONF_DIR


def config_comments(name: str, choices: Mapping[str, Any], *folders: Path) -> dict[str, str]:
    """Return the comments on the settings of a composed config.

    Args:
        name: of the primary config.
        choices: Hydra's `runtime.choices`: group, perhaps with a package, -> option.
        *folders: config folders beside `conf/`.

    Returns:
        Dotted key -> comment. Files that are read later replace comments, as they do values.
    """
    found: dict[str, str] = {}
    for choice, option in choices.items():
        group, _, package = choice.partition("@")
        if isinstance(option, str) and not group.startswith("hydra"):
            place = package or group.replace("/", ".")
            found |= dict(_of_option(group, option, place, folders))
    return found | dict(_of_option("", name, "", folders))


def _of_option(
    group: str, option: str, place: str, folders: tuple[Path, ...]
) -> Iterator[tuple[str, str]]:
    """Yield keys and comments of an option, after those of the options that it includes."""
    file = _file(group, option, folders)
    if file is None and group in ("student", "teacher"):
        yield from _of_option("model", option, place, folders)
    if file is None:
        return
    text = file.read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    node = yaml.compose(text, Loader=loader)
    if not isinstance(node, yaml.MappingNode):
        return
    if "# @package _global_" in text:
        place = ""
    for included in _included(node):
        yield from _of_option(group, included, place, folders)
    yield from _of_node(node, text.split("\n"), f"{place}." if place else "")


def _file(group: str, option: str, folders: tuple[Path, ...]) -> Path | None:
    files = (folder / group / f"{option}.yaml" for folder in (CONF_DIR, *folders))
    return next((file for file in files if file.is_file()), None)


def _included(node: yaml.MappingNode) -> Iterator[str]:
    """Yield the options of the same group in a file's defaults list."""
    for key, value in node.value:
        if key.value == "defaults" and isinstance(value, yaml.SequenceNode):
            names = [each.value for each in value.value if isinstance(each, yaml.ScalarNode)]
            yield from (name for name in names if name != "_self_")


def _of_node(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        nested = isinstance(value, yaml.MappingNode) and not value.flow_style
        end = key.end_mark if nested else value.end_mark
        _, mark, comment = lines[end.line][end.column :].partition("# ")
        if mark:
            yield name, comment.strip()
        if nested:  # the settings of {a: 1, b: 2} share the comment on the whole
            yield from _of_node(value, lines, f"{name}.")
