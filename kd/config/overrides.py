"""Command-line overrides: short forms, flags, and those of a resumed run."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from kd.config.record import recorded_command
from kd.io.run_folder import RunFolder

# What a key of several settings means when it is given a single value.
_SHORT = {"teacher.cache": "teacher.cache.mode"}


# Hydra's flags that stand before their value
_VALUED = {"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"}


def expand_shorthand(argument: str, aliases: Mapping[str, str] = MappingProxyType({})) -> str:
    """An argument as Hydra takes it."""
    if argument.startswith("schedule@"):
        return f"+{argument}"  # no method lists what might be scheduled
    key, equals, value = argument.partition("=")
    if equals and key in aliases:
        return f"{aliases[key]}={value}"
    if key == "baseline" and "=" in value and value[0] not in "'\"":
        return f"{key}='{value}'"  # Hydra takes a second = only in quotes
    short = key in _SHORT and not value.startswith("{")
    return f"{_SHORT[key]}={value}" if equals and short else argument


def continued(arguments: Sequence[str]) -> list[str]:
    """`resume=FOLDER` as the command that began the run in FOLDER, to go on there.

    What is given beside it holds as well, and wins.
    """
    flags, given = _parted(arguments)
    named = [override for override in given if override.startswith("resume=")]
    folder = Path(named[0].partition("=")[2].strip("'\"")) if len(named) == 1 else None
    if folder is None or not folder.is_dir():
        return [*arguments]  # a checkpoint, or a mistake that the run reports
    told = [override for override in given if override not in named]
    if told and not RunFolder(folder).overrides.is_file():
        return [*arguments]
    places, known = _parted(recorded_command(folder))
    # Told otherwise, it is another run, which goes on from that state because the user says so.
    told += named if told else []
    keys = set(map(_key, told))
    here = [] if {"-m", "--multirun"} & {*flags} else ["hydra.mode=RUN"]  # a job may name its sweep
    if "hydra.run.dir" not in keys:
        here.append("hydra.run.dir='" + str(folder).replace("'", r"\'") + "'")
    flags += [] if _config_dirs(flags) else places
    # Later ones win, and argparse finds flags at the ends only.
    return [*flags, *(part for part in known if _key(part) not in keys), *here, *told]


def _parted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags, with their values, and overrides."""
    flags: list[str] = []
    overrides: list[str] = []
    for before, argument in pairwise(("", *arguments)):
        is_flag = argument.startswith("-") or before in _VALUED
        (flags if is_flag else overrides).append(argument)
    return flags, overrides


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _config_dirs(arguments: Sequence[str]) -> list[Path]:
    """The folders given with --config-dir: models kept there are options as well."""
    flags = ("--config-dir", "-cd")
    apart = [b for a, b in pairwise(arguments) if a in flags]
    joined = [a.split("=", 1)[1] for a in arguments if a.startswith("--config-dir=")]
    return [Path(folder).resolve() for folder in apart + joined]
