"""Mistakes in a composed config that are found without loading what it configures."""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from kd.config.grammar import shorten
from kd.config.messages import unknown_key, without_class_names
from kd.config.names import key_paths, meant_settings
from kd.config.unread import METHOD_KEYS, interpolations, is_free, unread_keys, wrong_kinds

# Settings that are paths, beside all of `paths`
_PATHS = (
    *("hydra.run.dir", "hydra.sweep.dir", "resume", "teacher.checkpoint", "student.checkpoint"),
    *("data.root", "folder", "output", "run"),
)
_GLOBAL = ("experiment", "sweep", "debug", "recipe")


def setting_problems(
    cfg: DictConfig, overrides: Sequence[Override], name: str, resumed: bool = False
) -> Iterator[str]:
    """Find keys that nothing reads, keys that are needed, and values that do not resolve.

    Args:
        cfg: the composed config with Hydra's part.
        overrides: those that were applied.
        name: of the command's primary config.
        resumed: the config is a recorded one, whose own keys may be those of another version.
    """
    added = {o.key_or_group for o in overrides if o.is_add() or o.is_force_add()}
    kinds = dict(wrong_kinds(_content(cfg), name))
    for key, is_mapping in kinds.items():
        what = f"a mapping, with {key}.NAME for each of its settings" if is_mapping else "one value"
        yield f"{key}={shorten(str(OmegaConf.select(cfg, key)))}: must be {what}"
    if kinds:
        return
    yield from _labels(cfg, overrides)
    yield from _unread(cfg, name, added if resumed else None)
    yield from _search_path(cfg)
    yield from _unread_knobs(cfg, added, [o.input_line or "" for o in overrides], name)
    yield from _unread_by_hydra(cfg, added)
    deleted = [*_deleted(cfg, overrides)]
    yield from deleted
    broken = [] if deleted else [*_unresolved(cfg, {o.key_or_group for o in overrides})]
    yield from broken
    if not broken and not deleted:
        yield from path_problems(cfg)


def _labels(cfg: DictConfig, overrides: Sequence[Override]) -> Iterator[str]:
    """Find names of other options: data.name=cifar10 would train on digits and report CIFAR-10."""
    choices, loader = cfg.hydra.runtime.choices, GlobalHydra.instance().config_loader()
    for override in overrides:
        group, _, last = override.key_or_group.partition(".")
        chosen, value = choices.get(group), override.value()
        if last != "name" or chosen in (None, value):
            continue
        if value in loader.get_group_options(group):
            yield (
                f"{group}.name={value}: only labels the run, and {value} is another option; "
                f"choose it with {group}={value}, or another label for {group}={chosen}"
            )


def _unread(cfg: DictConfig, name: str, among: set[str] | None) -> Iterator[str]:
    content = _content(cfg)
    paths = [*key_paths(content)]
    for key in unread_keys(content, name):
        if among is not None and not any(f"{a}.".startswith(f"{key}.") for a in among):
            continue
        if key in _GLOBAL:
            yield f"{key}: nothing reads it; its file needs the line '# @package _global_'"
            continue
        parent = OmegaConf.select(cfg, key.rpartition(".")[0]) if "." in key else cfg
        others = [path for path in paths if not f"{path}.".startswith(f"{key}.")]
        siblings = [str(k) for k in parent if str(k) not in (key.rpartition(".")[2], "hydra")]
        meant = meant_settings(key, others, siblings)
        hint = f"did you mean {' or '.join(map(repr, meant))}? " if meant else ""
        yield f"{key}: nothing reads this key; {hint}valid: {', '.join(sorted(siblings))}"


def _unread_knobs(cfg: DictConfig, added: set[str], words: list[str], name: str) -> Iterator[str]:
    """Find knobs that were added to a method which has no such knob."""
    for key in sorted(added):
        match = re.fullmatch(r"((?:teacher\.training\.)?method)\.(\w+)(\..*)?", key)
        if match is None or match[2] in (*METHOD_KEYS, "joint"):
            continue
        place = f"{match[1]}.{match[2]}"
        others = [word for word in words if not word.lstrip("+").startswith(key)]
        if re.search(rf"{place}\b", " ".join(interpolations(OmegaConf.to_container(cfg)))):
            continue
        without = compose(name, others)
        if OmegaConf.select(without, place, throw_on_missing=False) is None:
            yield unknown_key(place, without)


def _unread_by_hydra(cfg: DictConfig, added: set[str]) -> Iterator[str]:
    """Find keys that were added to a part of Hydra's config with a fixed set of keys."""
    for key in sorted(key for key in added if key.startswith("hydra.")):
        place, _, last = key.rpartition(".")
        kind = OmegaConf.get_type(OmegaConf.select(cfg, place))
        if is_dataclass(kind) and last not in {field.name for field in fields(kind)}:
            yield unknown_key(key, cfg)


def _search_path(cfg: DictConfig) -> Iterator[str]:
    for place in OmegaConf.select(cfg, "hydra.searchpath") or ():
        folder = str(place).removeprefix("file://")
        if "://" not in folder and not Path(folder).is_dir():
            yield f"hydra.searchpath: {folder} is no folder"


def _deleted(cfg: DictConfig, overrides: Sequence[Override]) -> Iterator[str]:
    for override in overrides:
        key = override.key_or_group
        if not override.is_delete() or key.startswith("hydra"):
            continue
        place, _, last = key.replace("/", ".").rpartition(".")
        parent = OmegaConf.select(cfg, place) if place else cfg
        free = is_free(place) or (OmegaConf.is_dict(parent) and "_target_" in parent)
        if key in ("experiment", "sweep", "debug", "recipe"):
            continue
        if key in ("logger", "callbacks"):
            yield f"~{key}: a run needs it; ~{key}.NAME leaves one out" + (
                ", logger=none all" if key == "logger" else ""
            )
        elif not free or last == "_target_":
            yield f"~{key}: it is needed; give it another value, as {key}=…"


def _unresolved(cfg: DictConfig, given: set[str]) -> Iterator[str]:
    """Find missing values, and interpolations that fail: of the overrides only, if there are any.

    A value that does not resolve takes others with it that refer to it.
    """
    raw = dict(_texts(OmegaConf.to_container(cfg)))
    for key, text in raw.items():
        if text == MISSING and not key.startswith("hydra."):
            yield f"{key} has no value; give it as {key}=…"
    probe = copy.deepcopy(cfg)
    with open_dict(probe), read_write(probe):
        if "${hydra:" in str(_folders(probe).get("run")):
            probe.paths.run = "run"
    failed = {}
    for key in raw:
        if key.startswith("hydra.") and key not in ("hydra.run.dir", "hydra.sweep.dir"):
            continue
        try:
            OmegaConf.select(probe, key, throw_on_missing=False)
        except RecursionError:
            failed[key] = "it refers to itself"
        except (OmegaConfBaseException, ValueError) as error:
            failed[key] = _reason(error)
    blamed = [key for key in failed if key in given]
    for key in blamed or [*failed][:4]:
        yield f"{key}={shorten(raw[key])}: {failed[key]}"


def _reason(error: BaseException) -> str:
    if re.search("maximum recursion|Recursive interpolation", str(error)):
        return "it refers to itself"
    return shorten(without_class_names(error))


def _texts(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted keys of missing values and of interpolations, with their texts."""
    for key, child in node.items() if isinstance(node, dict) else ():
        if "." in str(key):  # a name of a setting, as in a search space
            continue
        yield from _texts(child, f"{prefix}{key}.")
        if isinstance(child, str) and (child == MISSING or "${" in child):
            yield f"{prefix}{key}", child


def path_problems(cfg: DictConfig) -> Iterator[str]:
    """Find paths that are none, and `~` in a config file, which nothing replaces there."""
    folders = _folders(cfg)
    paths = [f"paths.{key}" for key, text in folders.items() if "${hydra:" not in str(text)]
    for key in [*paths, *_PATHS]:
        try:
            value = OmegaConf.select(cfg, key)
        except OmegaConfBaseException:
            continue
        if value is None and (key not in paths or key == "paths.run"):
            continue
        if not isinstance(value, str):
            remedy = f"; a folder of this name is {key}=./{value}"
            is_name = isinstance(value, int | float)
            yield f"{key}={value}: must be a path{remedy if is_name else ''}"
        elif not value.strip():
            yield f"{key}: the path is empty"
        elif re.match(r"~[\w.-]*(/|$)", value):
            yield f"{key}={value}: write ${{oc.env:HOME}} for ~ in a config file"


def _content(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain content, with its interpolations as they are written."""
    content: Any = OmegaConf.to_container(cfg)
    return content


def _folders(cfg: DictConfig) -> dict[str, Any]:
    """The settings of `paths` as they are written."""
    content: Any = OmegaConf.to_container(cfg)
    folders = content.get("paths")
    return folders if isinstance(folders, dict) else {}
