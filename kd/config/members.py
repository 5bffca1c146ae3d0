"""The members of `teacher=ensemble`: each the one teacher of a config of its own."""

import copy
from collections import Counter
from collections.abc import Iterable

from omegaconf import DictConfig, open_dict

from kd.config.compose import model_config, plain


def is_ensemble(cfg: DictConfig) -> bool:
    """Whether the run's teacher is several nets."""
    return "members" in cfg.teacher


def member_configs(cfg: DictConfig) -> dict[str, DictConfig]:
    """The run's config for every member by name, as if that net alone were the teacher.

    So a member has the key of the registry, and the cache, of the same net as `teacher=`. A net
    named again differs by the seed it is trained with.
    """
    names = member_names(cfg.teacher.members)
    checkpoints = cfg.teacher.checkpoints or [None] * len(names)
    again: dict[str, int] = {}
    found = {}
    for (name, model), checkpoint in zip(names.items(), checkpoints, strict=True):
        found[name] = _alone(cfg, model, checkpoint, again.setdefault(model, 0))
        again[model] += 1
    return found


def _alone(cfg: DictConfig, model: str, checkpoint: str | None, again: int) -> DictConfig:
    other, net = copy.deepcopy(cfg), plain(model_config(model))
    common = {key: other.teacher[key] for key in ("epoch", "cache", "training")}
    with open_dict(other):
        other.teacher = {**net, **common, "checkpoint": checkpoint}
    other.teacher.training.seed += again
    return other


def member_names(members: Iterable[str]) -> dict[str, str]:
    """The members of an ensemble and their models; `resnet20` named again is `resnet20-2`."""
    seen: Counter[str] = Counter()
    names = {}
    for model in members:
        seen[model] += 1
        names[model if seen[model] == 1 else f"{model}-{seen[model]}"] = model
    return names
