"""One-line messages for mistakes in a config or on the command line."""

import errno
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from kd.compat import whole_config
from kd.errors import UserError, nearest

# Keys of a method's YAML that are not its knobs
_NO_KNOBS = ("name", "objectives", "weights", "stages", "schedules")

# Extras of pyproject.toml that install a launcher
_LAUNCHERS = {"joblib": "sweep", "submitit_local": "cluster", "submitit_slurm": "cluster"}

_CANNOT_WRITE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENOLCK),
}


def user_message(error: Exception) -> str | None:
    """Return the message for a user's mistake; None for a bug, which needs its traceback."""
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        cfg = whole_config(cause)
        if cfg is not None:
            return _unknown_key(str(cause.full_key), cfg)
    if isinstance(error, MissingConfigException) and error.options is not None:
        return _unknown_option(error, error.options)
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return (
            f"cannot write to {error.filename or 'the disk'}: {error.strerror}; choose another "
            "folder with hydra.run.dir=… or paths.output=…"
        )
    if isinstance(error, ValueError) and "Config group override must be" in str(error):
        return "a group needs an option, not null; --help lists the options, such as logger=none"
    # By name: Lightning, joblib and submitit are not imported here.
    if type(error).__name__ == "MisconfigurationException":
        return f"trainer: {error}"
    if type(error).__name__ in ("TerminatedWorkerError", "UncompletedJobError"):
        return (
            "a job's process was killed, perhaps for lack of memory; the same command with the "
            "same hydra.sweep.dir runs the jobs that are missing"
        )
    if isinstance(error, RuntimeError) and "srun" in str(error):
        return "hydra/launcher: this machine has no srun; start the sweep on a SLURM login node"
    if isinstance(error, UserError | HydraException | OmegaConfBaseException):
        return str(error)
    return None


def _unknown_key(full_key: str, cfg: DictConfig) -> str:
    place, _, key = full_key.rpartition(".")
    parent = OmegaConf.select(cfg, place) if place else cfg
    keys = [str(key) for key in parent]
    if place == "method":
        knobs = ", ".join(k for k in keys if k not in _NO_KNOBS) or "none"
        return f"method.{key}: method={parent.get('name')} has no {key!r}; its knobs: {knobs}"
    paths = _paths(OmegaConf.to_container(cfg))
    elsewhere = [path for path in paths if path.split(".")[-1] == key]
    also = f"; there is {', '.join(elsewhere[:4])}" if elsewhere else ""
    return f"there is no {full_key!r}{also}; {nearest(key, keys)}"


def _paths(node: Any, prefix: str = "") -> list[str]:
    """Return every key path of plain content, without Hydra's own part."""
    if not isinstance(node, dict):
        return []
    found = []
    for key, child in node.items():
        if key != "hydra" or prefix:
            found += [f"{prefix}{key}", *_paths(child, f"{prefix}{key}.")]
    return found


def _unknown_option(error: MissingConfigException, options: Sequence[str]) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    if group == "hydra/launcher" and name in _LAUNCHERS:
        return f"{group}={name} is not installed: pip install -e '.[{_LAUNCHERS[name]}]'"
    return f"{group}={name}: there is no such option; {nearest(name, options)}"
