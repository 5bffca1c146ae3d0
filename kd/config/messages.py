"""One-line messages for mistakes in a config or on the command line."""

import errno
import os
import re
from collections.abc import Sequence

import yaml
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from kd.compat import whole_config
from kd.config.group_options import LAUNCHERS
from kd.config.names import key_paths, meant_settings
from kd.config.unread import METHOD_KEYS
from kd.errors import UserError, nearest

# Errors of joblib, submitit and Ray, by name: none of them is imported here
_KILLED = ("TerminatedWorkerError", "UncompletedJobError", "WorkerCrashedError")

_CANNOT_WRITE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
    *(errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG),
}


def user_message(error: Exception) -> str | None:
    """Return the message for a user's mistake; None for a bug, which needs its traceback."""
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        cfg = whole_config(cause)
        if cfg is not None:
            return unknown_key(str(cause.full_key), cfg)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(error, error.options or ())
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        return (
            f"cannot write to {error.filename or 'the disk'}: {error.strerror}; choose another "
            "folder with hydra.run.dir=… or paths.output=…"
        )
    # Any other one is of a file or folder as well: missing, of another kind, its name too long, …
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.filename is None:
            return reason or type(error).__name__
        return f"{os.fsdecode(error.filename)}: {reason}"
    if isinstance(error, ValueError) and "Config group override must be" in str(error):
        return "a group needs an option, not null; --help lists the options, such as logger=none"
    # By name: Lightning, joblib and submitit are not imported here.
    if type(error).__name__ == "MisconfigurationException":
        return f"trainer: {error}"
    if type(error).__name__ in _KILLED:
        return (
            "a job's process was killed, perhaps for lack of memory; the same command with the "
            "same hydra.sweep.dir runs the jobs that are missing"
        )
    if isinstance(error, RuntimeError) and "Unknown plugin class" in str(error):
        return _missing_plugin(str(error))
    if isinstance(error, RuntimeError) and "srun" in str(error):
        return "hydra/launcher: this machine has no srun; start the sweep on a SLURM login node"
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        wanted = re.search(r"tried to allocate (\d+) bytes", str(error))
        size = f": {int(wanted[1]) / 1e9:.1f} GB are asked for at once" if wanted else ""
        return f"too little memory{size}; choose a smaller net, smaller samples or fewer of them"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return without_class_names(error)
    if isinstance(error, yaml.YAMLError):
        return f"a config file cannot be read: {' '.join(str(error).split())}"
    return None


def _missing_plugin(text: str) -> str:
    """Return the message for a launcher that only its config, one of ours, has."""
    name = text.split("hydra_plugins.hydra_")[-1].partition("_launcher")[0]
    extra = LAUNCHERS.get(name)
    install = f"pip install -e '.[{extra}]'" if extra else "install the package that has it"
    return f"hydra/launcher={name} is not installed: {install}"


def without_class_names(error: BaseException) -> str:
    """Return the text of an error of Hydra or OmegaConf, and its cause's, on one line.

    Their messages end in lines for programmers, such as `object_type=dict`.
    """
    texts = [str(error), *([str(error.__cause__)] if error.__cause__ else [])]
    lines = [line.strip() for text in texts for line in text.split("\n")]
    kept = [x for x in lines if x and not re.match(r"(full_key|object_type|reference_type)", x)]
    line = "; ".join(dict.fromkeys(kept)) or type(error).__name__
    line = re.sub(r"^Error merging override [^;]*; ", "", line)
    line = re.sub(r"^(In '[^']*': )?", "", line).partition("; Config search path:")[0]
    line = re.sub(
        r"\b(\w+\.)*(Interpolation\w*Error|Config\w+|\w+Exception|\w+Error)\b:? ?", "", line
    )
    line = re.sub(r"\b(DictConfig|ListConfig)\b", "value", line)
    return re.sub(r"raised while resolving interpolation: ", "", line).strip(' "')


def unknown_key(full_key: str, cfg: DictConfig) -> str:
    """Return the message for a key that a config does not have.

    Args:
        full_key: the dotted key.
        cfg: the whole config.
    """
    place, _, key = full_key.rpartition(".")
    parent = _parent(cfg, place)
    keys = [str(k) for k in parent or () if k not in ("hydra", "_target_", key)]
    paths = [path for path in key_paths(OmegaConf.to_container(cfg)) if path != full_key]
    meant = meant_settings(full_key, paths, keys if parent is not None else None)
    hint = f"did you mean {' or '.join(map(repr, meant))}? " if meant else ""
    if parent is None:
        known = place in paths
        why = f": {place} is a single value" if known else f"; {hint}--help lists all"
        return f"there is no {full_key!r}{why}"
    if place == "method":
        knobs = ", ".join(k for k in keys if k not in METHOD_KEYS) or "none"
        name = parent.get("name")
        return f"method.{key}: method={name} has no {key!r}; {hint}its knobs: {knobs}"
    valid = (
        f"valid: {', '.join(sorted(keys)) or 'none'}" if place or not meant else "--help lists all"
    )
    target = OmegaConf.select(parent, "_target_") if not meant else None
    added = f"; another argument of {target} is added as +{full_key}=…" if target else ""
    return f"there is no {full_key!r}; {hint}{valid}{added}"


def _parent(cfg: DictConfig, place: str) -> DictConfig | None:
    try:
        parent = OmegaConf.select(cfg, place, throw_on_missing=False) if place else cfg
    except OmegaConfBaseException:
        return None
    return parent if isinstance(parent, DictConfig) else None


def _unknown_option(error: MissingConfigException, options: Sequence[str]) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    if group == "hydra/launcher" and name in LAUNCHERS:
        return f"{group}={name} is not installed: pip install -e '.[{LAUNCHERS[name]}]'"
    place = f"{group}={name}" if group else f"--config-name={name}"
    return f"{place}: there is no such option; {nearest(name, options)}"
