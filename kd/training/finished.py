"""The finished run that a folder holds, compared with the one that a command asks for.

Neither torch nor lightning is loaded unless the settings are equal.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.config.experiment import differing, experiment_settings, name_differences
from kd.config.identity import Identity
from kd.config.record import read_record
from kd.errors import UserError
from kd.io.regular_files import real_path
from kd.io.result_file import Result, read_result

_REMEDY = "choose another folder with hydra.run.dir=… or hydra.sweep.dir=…, or delete it"


def finished(cfg: DictConfig, folder: Path) -> Result | None:
    """Return the result of this very run, if the folder holds it finished.

    The same run has the same settings, data and weights: the data are loaded and hashed, and so are
    the weights of the teacher.

    Raises:
        UserError: the folder holds the finished run of another configuration, or data or weights
            have changed since, or cannot be recognised.
    """
    result = read_result(folder)
    if result is None or result.get("status") != "completed":
        return None
    start = cfg.resume
    within = isinstance(start, str) and real_path(start).is_relative_to(real_path(folder))
    if result.get("data/fingerprint", "") is None:
        if within:
            return None
        raise UserError(
            f"{folder} holds a finished run on data that cannot be recognised, so whether it is "
            f"this one cannot be told; {_REMEDY}"
        )
    identity = _recorded(cfg, result)
    if identity is None or identity.hash != result.get("config_hash"):
        if within:
            return None  # resumed with other settings
        raise UserError(
            f"{folder} holds a finished run of another configuration{_how(cfg, folder)}; {_REMEDY}"
        )
    if identity.changes and cfg.resume is None:
        raise UserError(
            f"{folder} holds a finished run of another configuration: it was resumed with "
            f"{_named(identity)}; {_REMEDY}"
        )
    from kd.training.changed_inputs import changed_inputs

    if changed := changed_inputs(cfg, result):
        raise UserError(
            f"{folder} holds this run, finished, but what it was made with has changed since: "
            f"{changed}; {_REMEDY} to run it again"
        )
    return result


def _recorded(cfg: DictConfig, result: Mapping[str, Any]) -> Identity | None:
    """The identity of a finished run, if its settings are those of the config."""
    if "data/fingerprint" not in result:  # of an earlier version, which compared less
        return None
    return Identity(
        experiment_settings(cfg),
        data=result["data/fingerprint"],
        teacher=result.get("teacher/weights_hash"),
        start=result.get("student/start_hash"),
        changes=result.get("changes", []),
    )


def _how(cfg: DictConfig, folder: Path) -> str:
    """Name the settings in which a folder's run differs, if its record tells."""
    try:
        recorded = experiment_settings(read_record(folder))
    except Exception:  # a record can be damaged in any way; the message does without it
        return ""
    found = differing(recorded, experiment_settings(cfg))
    return f" ({name_differences(found)})" if found else ""


def _named(identity: Identity) -> str:
    return ", ".join(
        f"{key}={new} from epoch {change['epoch']} on"
        for change in identity.changes
        for key, (_, new) in change["settings"].items()
    )
