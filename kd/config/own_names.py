"""Texts in the user's own YAML files, which the record of a run may repeat."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

# libyaml's parser reads the files of conf/ in 0.1 s, the one in Python in 0.8 s.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Keys of a primary config that configure Hydra; they are no part of a run's config.
_HYDRA = {"defaults", "hydra"}


class OwnNames(NamedTuple):
    """Texts of all YAML files in some folders.

    Attributes:
        targets: values of `_target_`.
        texts: all values, such as `${one_minus:${method.alpha}}`.
    """

    targets: frozenset[str]
    texts: frozenset[str]


def own_names(folders: Iterable[Path]) -> OwnNames:
    """Read every YAML file below the folders; files that are no YAML are left out."""
    found = [pair for folder in folders for pair in _texts_below(folder)]
    return OwnNames(
        frozenset(text for key, text in found if key == "_target_"),
        frozenset(text for _, text in found),
    )


def _texts_below(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(folder.rglob("*.yaml")):
        try:
            content = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
        except (OSError, ValueError, yaml.YAMLError):  # Hydra reports it, if it is used
            continue
        if isinstance(content, dict):
            yield from _texts({k: v for k, v in content.items() if k not in _HYDRA}, "")


def _texts(node: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield every text in plain content with the key that holds it."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _texts(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield key, node
