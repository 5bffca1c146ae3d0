"""How every command starts: Hydra's main, and one message instead of a traceback for a mistake."""

import errno
import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from kd.config.compose import CONF_DIR, register_models
from kd.config.record import OVERRIDES, recorded_command
from kd.errors import UserError, nearest

Task = Callable[[DictConfig], Any]

# What a key of several settings means when it is given a single value.
_SHORT = {"teacher.cache": "teacher.cache.mode"}

# What a method's YAML says beside its knobs.
_NO_KNOBS = ("name", "objectives", "weights", "stages", "schedules")

# The extra that brings a launcher.
_LAUNCHERS = {"joblib": "sweep", "submitit_local": "cluster", "submitit_slurm": "cluster"}

# Hydra's flags that stand before their value
_VALUED = {"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn"}

_CANNOT_WRITE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENOLCK),
}

# Whether tracebacks are wanted; processes that this one starts find HYDRA_FULL_ERROR set by it.
_FULL_ERROR = "KD_FULL_ERROR"


def command(config_name: str, **aliases: str) -> Callable[[Task], Callable[[], None]]:
    """Turn `task(cfg)` into a command that is configured by `conf/<config_name>.yaml`.

    `aliases` are other names of its keys: for keys that are called as one of Hydra's groups is.
    A user's mistake ends it with one message and exit code 1, or with the traceback where
    HYDRA_FULL_ERROR=1.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def job(cfg: DictConfig) -> Any:
            try:
                return task(cfg)
            except Exception as error:
                # Before Hydra says that this was a job, which is news in a sweep only.
                if HydraConfig.get().mode == RunMode.RUN:
                    _end(error)
                raise

        main = hydra.main(str(CONF_DIR), config_name, version_base="1.3")(job)

        def start() -> None:
            os.environ.setdefault(_FULL_ERROR, os.environ.get("HYDRA_FULL_ERROR", "0"))
            # With this set, Hydra hands exceptions on instead of printing them.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            try:
                sys.argv[1:] = [written_out(argument, aliases) for argument in sys.argv[1:]]
                if config_name == "train":
                    sys.argv[1:] = continued(sys.argv[1:])
                register_models(CONF_DIR, *_config_dirs(sys.argv[1:]))
                main()
            except KeyboardInterrupt:
                sys.exit(130)
            except Exception as error:
                _end(error)
                raise

        return start

    return decorate


def _end(error: Exception) -> None:
    """End with one message, if a user can do something about the error and wants no traceback."""
    if os.environ.get(_FULL_ERROR) != "1" and (message := explained(error)) is not None:
        sys.exit(f"error: {message}")


def written_out(argument: str, aliases: Mapping[str, str] = MappingProxyType({})) -> str:
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
    if told and not (folder / OVERRIDES).is_file():
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


def explained(error: Exception) -> str | None:
    """What to tell the user; None where the program is at fault and should show its traceback."""
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and cause.parent_node is not None:
        return _unknown_key(cause)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _unknown_option(error, error.options)
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return (
            f"cannot write to {error.filename or 'the disk'}: {error.strerror}; choose another "
            "folder with hydra.run.dir=… or paths.output=…"
        )
    if isinstance(error, ValueError) and "Config group override must be" in str(error):
        return "a group needs an option, not null; --help lists them, among others logger=none"
    if type(error).__name__ == "MisconfigurationException":  # Lightning is not imported up here
        return f"trainer: {error}"
    if type(error).__name__ in ("TerminatedWorkerError", "UncompletedJobError"):
        return (
            "the process of a job was killed, for want of memory perhaps; the same command with "
            "the same hydra.sweep.dir runs what is missing"
        )
    if isinstance(error, RuntimeError) and "srun" in str(error):
        return "hydra/launcher: this machine has no srun; start the sweep where SLURM takes jobs"
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return str(error)
    return None


def _unknown_key(error: ConfigAttributeError | ConfigKeyError) -> str:
    parent: Any = error.parent_node
    place = str(parent._get_full_key("")).rstrip(".")
    key, keys = str(error.key), [str(key) for key in parent]
    if place == "method":
        knobs = [k for k in keys if k not in _NO_KNOBS]
        listed = ", ".join(knobs) or "none"
        return f"method.{key}: method={parent.get('name')} has no {key!r}; its knobs: {listed}"
    elsewhere = [path for path in _paths(parent._get_root()) if path.split(".")[-1] == key]
    also = f"; there is {', '.join(elsewhere[:4])}" if elsewhere else ""
    full_key = f"{place}.{key}" if place else key
    return f"there is no {full_key!r}{also}; {nearest(key, keys)}"


def _paths(node: Any, prefix: str = "") -> list[str]:
    """Every key path of a config, Hydra's own part left out."""
    if not isinstance(node, DictConfig):
        return []
    found = []
    for key in map(str, node):
        if key != "hydra" or prefix:
            child = node._get_node(key)
            found += [f"{prefix}{key}", *_paths(child, f"{prefix}{key}.")]
    return found


def _unknown_option(error: MissingConfigException, options: Sequence[str]) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    if group == "hydra/launcher" and name in _LAUNCHERS:
        return f"{group}={name} is not installed: pip install -e '.[{_LAUNCHERS[name]}]'"
    return f"{group}={name}: there is no such option; {nearest(name, options)}"
