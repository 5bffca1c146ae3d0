"""Members of `teacher=ensemble`: the config of each as a single teacher."""

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, open_dict

from kd.config.compose import model_config, plain

# Settings of a single teacher, and the list of them in an ensemble, one a member
BY_MEMBER = {
    "checkpoint": "checkpoints",
    "checkpoint_key": "checkpoint_keys",
    "mean": "means",
    "std": "stds",
}


def is_ensemble(cfg: DictConfig) -> bool:
    """Return whether the run's teacher is an ensemble."""
    return "members" in cfg.teacher


def member_configs(cfg: DictConfig) -> dict[str, DictConfig]:
    """Return, for each member's name, the run's config with that member as the only teacher.

    A member therefore shares its entry in the teacher registry, and its cached outputs, with the
    same net as `teacher=`. A net that is named twice is trained with two seeds.
    """
    names = member_names(cfg.teacher.members)
    lists = {key: cfg.teacher.get(name) or [None] * len(names) for key, name in BY_MEMBER.items()}
    repeats: Counter[str] = Counter()
    configs = {}
    for number, (name, model) in enumerate(names.items()):
        own = {key: plain(values[number]) for key, values in lists.items()}
        configs[name] = _single_teacher(cfg, model, own, repeats[model])
        repeats[model] += 1
    return configs


def _single_teacher(
    cfg: DictConfig, model: str, own: dict[str, Any], seed_offset: int
) -> DictConfig:
    single, net = copy.deepcopy(cfg), plain(model_config(model))
    common = {key: single.teacher[key] for key in ("epoch", "cache", "training")}
    with open_dict(single):
        single.teacher = {**net, **common, **own}
    single.teacher.training.seed += seed_offset
    return single


def member_names(members: Iterable[str]) -> dict[str, str]:
    """Return the members' names with their models; repetitions are numbered.

    Example:
        >>> member_names(["resnet20", "resnet14", "resnet20"])
        {'resnet20': 'resnet20', 'resnet14': 'resnet14', 'resnet20-2': 'resnet20'}
    """
    seen: Counter[str] = Counter()
    names = {}
    for model in members:
        seen[model] += 1
        names[model if seen[model] == 1 else f"{model}-{seen[model]}"] = model
    return names
