"""Experiment identity: the hash of everything a run's numbers depend on."""

import hashlib
import json
from typing import Any

from omegaconf import DictConfig

from kd.config.compose import plain


def content_hash(content: Any) -> str:
    """Name plain content by 12 hexadecimal digits; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def hashed_part(cfg: DictConfig) -> dict[str, Any]:
    """What a run's numbers depend on, as plain content."""
    return {k: v for k, v in plain(cfg).items() if k not in NO_PART_OF_NUMBERS}


def config_hash(cfg: DictConfig) -> str:
    """Name an experiment: equal for two runs exactly when what they compute is configured alike."""
    return content_hash(hashed_part(cfg))


def settings(cfg: DictConfig) -> dict[str, str | int | float | bool]:
    """What tells one job of a sweep from another, by the names of the command line, flat.

    TensorBoard's HPARAMS tab shows the first five by name: data, method and the method's knobs.
    """
    chosen: dict[str, Any] = {k: cfg[k].name for k in ("data", "method", "teacher", "student")}
    chosen |= {"seed": cfg.seed, "trainer.max_epochs": cfg.trainer.max_epochs}
    chosen |= {"data.batch_size": cfg.data.batch_size}
    for group in ("method", "optimizer"):
        chosen |= {f"{group}.{k}": v for k, v in plain(cfg[group]).items() if _is_knob(k, v)}
    return chosen


def _is_knob(key: str, value: Any) -> bool:
    # What is off would take one of the five places that are shown.
    hidden = key == "name" or key.startswith("_") or value is False
    return isinstance(value, str | int | float | bool) and not hidden


# What a run's numbers do not depend on: runs that differ in these are the same experiment.
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
