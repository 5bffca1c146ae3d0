"""Settings that a run's numbers depend on, without paths and without what only observes a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd.config.compose import plain
from kd.config.flat import flatten

# Top-level keys that a run's numbers do not depend on: runs that differ only in these are the same
# experiment. All others are part of it, also those that a later version or a user adds.
NO_PART_OF_NUMBERS = (
    "paths",
    "logger",
    "checkpoint",
    "resume",
    "debug",
    "doctor",
    "figures",
    "keep_epochs",
    "hydra",
)
# Keys of any trainer that change what is shown, and how often.
_DISPLAY = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps")
# Keys of `data` that say where the data lie and how they are read.
_PLACE_OF_DATA = ("root", "download", "workers", "num_workers")
# Settings that configs of earlier versions lack, with the value that has the effect of absence.
_AS_ABSENT: Mapping[str, Any] = {
    "control": None,
    "data.train_samples": None,
    "data.leave_out": None,
    "data.labels": True,
    "teacher.classes": None,
    "teacher.num_classes": None,
    "teacher.update": None,
    "teacher.update_loss": "both",
    "teacher.update_lr": None,
}
# Lightning's callbacks that observe a run. `kd.callbacks` has no others.
_PASSIVE_CALLBACKS = {
    *("DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary"),
    *("OnExceptionCheckpoint", "ProgressBar", "RichModelSummary", "RichProgressBar"),
    *("ThroughputMonitor", "TQDMProgressBar"),
}
_LIGHTNING = {"lightning", "pytorch_lightning"}
_FORMER_VARIANT = "forward"  # of soft targets, the only one in configs without the key
_MAX_NAMED = 4  # settings in a message


def experiment_settings(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """Return the settings that a run's numbers depend on, flat, named as on the command line.

    Paths have no part in them: fingerprints stand for what lies there.

    Args:
        cfg: the run's config.
        resolve: False: interpolations stay as they are written, so that all seeds are equal in
            `data.seed: ${seed}`.
    """
    whole: Any = {} if resolve else OmegaConf.to_container(cfg)
    # One by one: paths may refer to Hydra's own config, which a recorded config lacks.
    keys = [str(key) for key in cfg if key not in NO_PART_OF_NUMBERS]
    content = {key: plain(cfg[key]) if resolve else whole[key] for key in keys}
    flat = flatten({key: numeric_part(key, value) for key, value in content.items()})
    return {key: value for key, value in flat if value != {}}


def numeric_part(key: str, content: Any, recognised: bool = True) -> Any:
    """Return the part of a top-level key's content that a run's numbers depend on.

    Args:
        key: such as `data`.
        content: plain.
        recognised: the run has fingerprints of its data and its weights, which stand for paths.
    """
    if _is_absent(key, content):
        return {}
    if not isinstance(content, Mapping):
        return content
    content = {k: v for k, v in content.items() if not _is_absent(f"{key}.{k}", v)}
    if key == "callbacks":
        return {name: leaf for name, leaf in content.items() if leaf and not _is_passive(leaf)}
    if key == "data" and recognised:
        return {k: v for k, v in content.items() if k not in _PLACE_OF_DATA and not _is_path(v)}
    if key == "method" and content.get("variant") == _FORMER_VARIANT:
        return _without_variant(content)
    if key in ("teacher", "student"):
        kept = {k: _without_display(v) if k == "training" else v for k, v in content.items()}
        paths = ("checkpoint", "checkpoints") if recognised else ()
        return {k: _given(v) if k in paths else v for k, v in kept.items()}
    return _without_display({key: content})[key]


def _without_variant(method: Mapping[str, Any]) -> dict[str, Any]:
    """The method as in configs of earlier versions, whose soft targets have no variants."""
    # The second is what stands in the YAML; a term that was given another variant keeps it.
    former = (_FORMER_VARIANT, "${method.variant}")
    terms = {
        name: {k: v for k, v in term.items() if k != "variant" or v not in former}
        if isinstance(term, Mapping)
        else term
        for name, term in (method.get("objectives") or {}).items()
    }
    kept = {key: value for key, value in method.items() if key != "variant"}
    return {**kept, "objectives": terms}


def _is_absent(setting: str, value: Any) -> bool:
    """Whether a config without the setting has the same effect."""
    return setting in _AS_ABSENT and value == _AS_ABSENT[setting]


def _without_display(content: Any) -> Any:
    """The content without what `trainer` below it shows."""
    trainer = content.get("trainer") if isinstance(content, Mapping) else None
    if not isinstance(trainer, Mapping):
        return content
    return {**content, "trainer": {k: v for k, v in trainer.items() if k not in _DISPLAY}}


def _is_passive(callback: Any) -> bool:
    target = str(callback.get("_target_")) if isinstance(callback, Mapping) else ""
    package, name = target.split(".", 1)[0], target.rsplit(".", 1)[-1]
    known = package in _LIGHTNING and name in _PASSIVE_CALLBACKS
    return known or target.startswith("kd.callbacks.")


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("/", "~", "./", "../"))


def _given(checkpoint: Any) -> Any:
    """`given` in the place of a path; the hash of the weights tells which."""
    if isinstance(checkpoint, Sequence) and not isinstance(checkpoint, str):
        return [_given(each) for each in checkpoint]
    return checkpoint and "given"


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return old and new value of every setting in which two runs differ; `absent` for none."""
    keys = [key for key in {**new, **old} if old.get(key, ...) != new.get(key, ...)]
    return {key: (old.get(key, "absent"), new.get(key, "absent")) for key in keys}


def name_differences(differences: Mapping[str, tuple[Any, Any]]) -> str:
    """Name some differing settings for a message.

    Example:
        >>> name_differences({"seed": (0, 1)})
        'seed=0 instead of 1'
    """
    pairs = [f"{key}={old} instead of {new}" for key, (old, new) in differences.items()]
    rest = len(pairs) - _MAX_NAMED
    return ", ".join(pairs[:_MAX_NAMED]) + (f" and {rest} more changes" if rest > 0 else "")
