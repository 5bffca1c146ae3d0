"""Experiment identity: everything that a run's numbers depend on, and its hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from omegaconf import DictConfig

from kd.config.compose import plain
from kd.config.experiment import experiment_settings


@dataclass(frozen=True)
class Identity:
    """What a run's numbers depend on.

    Attributes:
        settings: flat, without paths; see `kd.config.experiment`.
        data: fingerprint of the data; None: they cannot be recognised.
        teacher: hash of the teacher's weights, of an ensemble one a member; None: no teacher.
        start: hash of initial weights that the student was given; None: drawn from the seed.
        changes: settings that were changed when the run was resumed, see `Change`.
        unrecognised: distinguishes this run from all others if the data cannot be recognised.
    """

    settings: Mapping[str, Any]
    data: str | None = None
    teacher: str | list[str] | None = None
    start: str | None = None
    changes: list[dict[str, Any]] = field(default_factory=list)
    unrecognised: str | None = None

    @property
    def hash(self) -> str:
        """`config_hash` of result.json: 12 hexadecimal digits."""
        return content_hash(asdict(self))

    def state(self) -> dict[str, Any]:
        """Return plain content for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the identity that `state` has returned.

        Raises:
            TypeError, AttributeError: the content is another one.
        """
        return cls(**state)


def content_hash(content: Any) -> str:
    """Hash plain content to 12 hexadecimal digits (48 bits), whatever the order of its keys.

    Example:
        >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
        True
    """
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def settings_hash(cfg: DictConfig) -> str:
    """Hash the settings alone: before data and teacher are there, or where they do not count."""
    return content_hash(experiment_settings(cfg))


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
