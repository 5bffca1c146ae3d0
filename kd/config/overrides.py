"""Command-line overrides: short forms, and the folders that flags name."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from kd.io.regular_files import real_path

# Keys of several settings that may be given as a single value
_SHORT = {"teacher.cache": "teacher.cache.mode"}


def expand_shorthand(argument: str, aliases: Mapping[str, str] = MappingProxyType({})) -> str:
    """Rewrite a short form of an argument as Hydra takes it.

    Args:
        argument: one word of the command line.
        aliases: other names of keys.

    Example:
        >>> expand_shorthand("teacher.cache=off")
        'teacher.cache.mode=off'
        >>> expand_shorthand("schedule@method.schedules.alpha=cosine")
        '+schedule@method.schedules.alpha=cosine'
    """
    if argument.startswith("schedule@"):
        return f"+{argument}"  # no defaults list names a knob's schedule, so it is appended
    key, equals, value = argument.partition("=")
    if equals and key in aliases:
        return f"{aliases[key]}={value}"
    if key == "baseline" and "=" in value and value[0] not in "'\"":
        return f"{key}='{value}'"  # Hydra takes a second = only in quotes
    short = key in _SHORT and not value.startswith("{")
    return f"{_SHORT[key]}={value}" if equals and short else argument


def override_key(override: str) -> str:
    """Return the key of an override, without its sign and package.

    Example:
        >>> override_key("+schedule@method.schedules.alpha=cosine")
        'schedule'
    """
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def given_values(arguments: Sequence[str]) -> dict[str, str]:
    """Return the keys that overrides set, with their values; `~` for a key that they delete.

    Example:
        >>> given_values(["-m", "seed=1", "+trainer.max_time=1:00", "~callbacks.divergence"])
        {'seed': '1', 'trainer.max_time': '1:00', 'callbacks.divergence': '~'}
    """
    found = {}
    for override in (each for each in arguments if not each.startswith("-")):
        key, _, value = override.lstrip("+~").partition("=")
        found[key] = "~" if override.startswith("~") else value
    return found


def config_dirs(arguments: Sequence[str]) -> list[Path]:
    """Return the folders given with --config-dir, whose models are options as well."""
    flags = ("--config-dir", "-cd")
    apart = [folder for flag, folder in pairwise(arguments) if flag in flags]
    joined = [a.split("=", 1)[1] for a in arguments if a.startswith("--config-dir=")]
    return [real_path(folder) for folder in apart + joined]
