"""Experiment identity: the hash of every setting that a run's numbers depend on."""

import hashlib
import json
from typing import Any

from omegaconf import DictConfig

from kd.config.compose import plain

# Top-level keys that a run's numbers do not depend on: runs that differ only in these are the same
# experiment.
NO_PART_OF_NUMBERS = (
    "paths",
    "logger",
    "callbacks",
    "checkpoint",
    "resume",
    "debug",
    "doctor",
    "figures",
    "keep_epochs",
)


def content_hash(content: Any) -> str:
    """Hash plain content to 12 hexadecimal digits (48 bits), whatever the order of its keys.

    Example:
        >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
        True
    """
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hashed_part(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that a run's numbers depend on, resolved."""
    return {k: v for k, v in plain(cfg).items() if k not in NO_PART_OF_NUMBERS}


def config_hash(cfg: DictConfig) -> str:
    """Return the experiment's identity: equal for two runs that compute the same numbers."""
    return content_hash(hashed_part(cfg))


def settings(cfg: DictConfig) -> dict[str, str | int | float | bool]:
    """Return the settings that distinguish the jobs of a sweep, flat, named as in overrides.

    TensorBoard's HPARAMS tab shows the first five by name: data, method and the method's knobs.
    """
    chosen: dict[str, Any] = {k: cfg[k].name for k in ("data", "method", "teacher", "student")}
    chosen |= {"seed": cfg.seed, "trainer.max_epochs": cfg.trainer.max_epochs}
    if cfg.data.batch_size is not None:  # a user's loader has its own
        chosen["data.batch_size"] = cfg.data.batch_size
    for group in ("method", "optimizer"):
        chosen |= {f"{group}.{k}": v for k, v in plain(cfg[group]).items() if _is_knob(k, v)}
    return chosen


def _is_knob(key: str, value: Any) -> bool:
    # A flag that is off would take one of the five visible places.
    hidden = key == "name" or key.startswith("_") or value is False
    return isinstance(value, str | int | float | bool) and not hidden
