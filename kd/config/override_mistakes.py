"""Mistakes in overrides: all of a command line at once, where Hydra stops at the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra import compose
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from kd.config.compose import plain
from kd.config.grammar import parse, readable, shorten
from kd.config.group_options import check_choice, refuse_addition
from kd.config.messages import unknown_key, user_message, without_class_names
from kd.config.sweep_jobs import refuse_endless
from kd.errors import UserError


@dataclass
class Overrides:
    """The overrides of a command line that can be read, and what is wrong with the others.

    Attributes:
        parsed: in order; of a wrong option of a group, with the nearest one in its place.
        groups: keys that are config groups.
        problems: one message for each mistake.
        unclear: config groups of which a wrong option resembles no valid one, so that the keys
            below them are unknown.
        aliases: names by which top-level keys of the config are given.
    """

    parsed: list[Override] = field(default_factory=list)
    groups: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The overrides as Hydra takes them."""
        return [override.input_line or "" for override in self.parsed]


def read_overrides(words: Sequence[str], loader: Any, aliases: Mapping[str, str]) -> Overrides:
    """Parse overrides, and check those that choose an option of a config group.

    Args:
        words: the command line without flags.
        loader: Hydra's config loader.
        aliases: names by which top-level keys of the config are given.
    """
    found = Overrides(aliases=aliases)
    for word in words:
        try:
            override = parse(readable(word), loader)
            refuse_endless(override)
        except UserError as error:
            found.problems.append(f"{error}{_meant(word, loader)}")
            continue
        options = loader.get_group_options(override.key_or_group)
        if options and _adds_to_hydra(override):
            found.problems.append(_is_there(word, override.key_or_group))
            continue
        found.groups |= {override.key_or_group} if options else set()
        choice = check_choice(override, options) if options else None
        found.problems += choice.problems if choice else []
        if choice is None or choice.word == override.input_line:
            found.parsed.append(override)
        elif choice.word is not None:
            found.parsed.append(parse(choice.word, loader))
        else:
            found.unclear.append(override.key_or_group.replace("/", "."))
    return found


def _adds_to_hydra(override: Override) -> bool:
    """Whether `+` is before a group of Hydra's: `compose` takes it, `hydra.main` does not."""
    added = override.is_add() or override.is_force_add()
    return added and override.key_or_group.startswith("hydra/")


def _is_there(word: str, key: str) -> str:
    return f"{word}: the config has {key} already; leave the + out"


def _meant(word: str, loader: Any) -> str:
    """A hint for a word without `=`: it may be an option of a group."""
    if "=" in word or not word:
        return ""
    groups = ("method", "student", "teacher", "data", "mode", "trainer", "optimizer", "experiment")
    places = [f"{group}={word}" for group in groups if word in loader.get_group_options(group)]
    return f"; did you mean {' or '.join(places)}?" if places else ""


def compose_all(name: str, overrides: Overrides) -> DictConfig | None:
    """Compose a config with every override that Hydra accepts.

    Args:
        name: of the primary config.
        overrides: without sweeps; gets a message for each one that is not accepted.

    Returns:
        The config with Hydra's part; None if there is a mistake in the config files themselves.
    """
    try:
        return compose(name, overrides.words, return_hydra_config=True)
    except Exception:  # Hydra and OmegaConf raise many kinds, and those of Python
        return _one_by_one(name, overrides)


def _one_by_one(name: str, overrides: Overrides) -> DictConfig | None:
    """Add one override after the other, choices of groups first as in Hydra."""
    accepted: list[str] = []
    try:
        cfg = compose(name, [], return_hydra_config=True)
    except Exception as error:
        overrides.problems.append(_message("", error))
        return None
    for override in sorted(overrides.parsed, key=lambda o: not _is_choice(o, overrides.groups)):
        word = override.input_line or ""
        try:
            cfg = compose(name, [*accepted, word], return_hydra_config=True)
        except Exception as error:
            if not _is_unclear(override, overrides.unclear):
                overrides.problems.append(_describe(override, error, cfg, overrides))
        else:
            accepted.append(word)
    return cfg


def _is_choice(override: Override, groups: set[str]) -> bool:
    return override.key_or_group in groups and not isinstance(override.value(), dict)


def _is_unclear(override: Override, unclear: Sequence[str]) -> bool:
    return any(f"{override.key_or_group}.".startswith(f"{place}.") for place in unclear)


def _describe(override: Override, error: Exception, cfg: DictConfig, given: Overrides) -> str:
    """Return the message for one of `given` overrides that cannot be applied to `cfg`."""
    key, word = override.key_or_group, shorten(override.input_line or "")
    if _is_choice(override, given.groups) and not override.is_delete():
        choices = cfg.hydra.runtime.choices
        for problem in refuse_addition(override, lambda place: choices[place]):
            return problem
    if "support deletion" in str(error.__cause__):
        return f"~{key}: it is needed; give it another value, as {key}=…"
    if "Cannot merge" in str(error.__cause__):
        return _of_another_kind(key, override.value(), OmegaConf.select(cfg, key))
    visible = _as_given(cfg, given.aliases) if not key.startswith("hydra") else cfg
    if override.is_add() and "already" in str(error):
        return _is_there(word, key)
    cause = error.__cause__ if error.__cause__ is not None else error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) or "not exist" in str(error):
        return unknown_key(key, visible)
    return _message(word, error)


def _of_another_kind(key: str, value: Any, current: Any) -> str:
    """Return the message for a value that cannot be merged with the current one."""
    if isinstance(value, dict) and OmegaConf.is_dict(current):
        for name, child in value.items():
            inner = current.get(str(name))
            if OmegaConf.is_config(inner) and isinstance(child, dict) != OmegaConf.is_dict(inner):
                return _of_another_kind(f"{key}, {name}", child, inner)
    expected = "list" if OmegaConf.is_list(current) else "mapping"
    example = shorten(str(current).replace("'", ""))
    space = "; a space of its own is search/NAME.yaml in the folder of --config-dir"
    return (
        f"{key}: {shorten(str(value))} is merged into {example}, so that it must be a {expected}"
        f"{space if key.startswith('search.space') else ''}"
    )


def _as_given(cfg: DictConfig, aliases: Mapping[str, str]) -> DictConfig:
    """Return a config without Hydra's part, its keys by the names by which they are given."""
    visible = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    for alias, key in aliases.items():
        with open_dict(visible):
            visible[alias] = visible.pop(key)
    return visible


def _message(word: str, error: Exception) -> str:
    text = user_message(error) or without_class_names(error)
    return text if not word or word in text else f"{word}: {text}"


def content_of(cfg: DictConfig) -> dict[str, Any]:
    """Return a config as plain content with its interpolations as they are written."""
    content: dict[str, Any] = plain(OmegaConf.to_container(cfg))
    return content
