"""OmegaConf resolvers that the YAML files use."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import OmegaConf

from kd.config.compose import model_taps
from kd.config.members import member_names
from kd.errors import UserError
from kd.models.default_taps import default_taps
from kd.models.text_taps import (
    hf_taps,
    hidden_pairs,
    if_tap,
    last_hidden,
    last_pair,
    layer_pairs,
    transformer_taps,
)

# MKL prefers its own variable to OpenMP's.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def one_minus(*terms: float) -> float:
    """Return the weight of the hard labels: `${one_minus:${method.alpha}}`.

    Rounded to 12 digits, so that 1 − 0.9 is 0.1 and not 0.09999999999999998.
    """
    return round(1.0 - sum(map(float, terms)), 12)


def common_stages(teacher: Mapping[str, str] | None, student: Mapping[str, str]) -> list[str]:
    """Return the stages of both nets in pairs, in order: `${common_stages:${teacher.taps},…}`.

    Nets of different depth are paired from the last stage on, as their maps are closest in meaning
    there; a pair of two names is `student:teacher`. Without stages, the maps `p3` … of a feature
    pyramid that both nets have, in the order in which the pyramid computes them: the finest last.

    Example:
        >>> four, three = ({f"stage{n}": "" for n in range(1, depth + 1)} for depth in (4, 3))
        >>> common_stages(four, three)
        ['stage1:stage2', 'stage2:stage3', 'stage3:stage4']
        >>> common_stages(three, three)
        ['stage1', 'stage2', 'stage3']
        >>> common_stages({"p3": "", "p4": "", "p5": ""}, {"p3": "", "p4": "", "cls": ""})
        ['p4', 'p3']
    """
    theirs, ours = _stages(teacher or {}), _stages(student)
    count = min(len(theirs), len(ours))
    pairs = zip(ours[len(ours) - count :], theirs[len(theirs) - count :], strict=True)
    pyramid = [tap for tap in student if re.fullmatch(r"p\d+", tap) and tap in (teacher or {})]
    stages = [own if own == other else f"{own}:{other}" for own, other in pairs]
    return stages or sorted(pyramid, reverse=True)


def _stages(taps: Iterable[str]) -> list[str]:
    """Return the taps `stage…` by their numbers: stage10 behind stage2."""
    return sorted(
        (tap for tap in taps if tap.startswith("stage")),
        key=lambda tap: [(len(part), part) for part in re.findall(r"\d+|\D+", tap)],
    )


def last_common_stage(teacher: Mapping[str, str] | None, student: Mapping[str, str]) -> str:
    """Return the last stages of both nets as a pair: `${last_common_stage:${teacher.taps},…}`.

    `stage1` if they have none in common, so that a config without a teacher resolves.
    """
    return next(reversed(common_stages(teacher, student)), "stage1")


def member_taps(members: Iterable[str], features: str | None) -> dict[str, str]:
    """Return the taps of an ensemble's member `features`, by default of its first member.

    An unknown model has no taps here: `kd.validation` reports it with the nearest name.
    """
    names = member_names(members)
    model = names.get(features or next(iter(names), ""))
    try:
        return model_taps(model) if model else {}
    except UserError:
        return {}


def threads_of_a_job(launcher: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that set the number of torch's threads in a sweep's job.

    One thread under joblib and Ray, whose jobs run side by side and would compete for the cores; as
    many as submitit reserves for a job. Otherwise no variables are set, and torch takes every core.
    """
    side_by_side = any(name in str(launcher.get("_target_")) for name in ("joblib", "hydra_ray"))
    threads = 1 if side_by_side else launcher.get("cpus_per_task")
    return {} if threads is None else dict.fromkeys(_THREADS, str(threads))


_RESOLVERS = (
    *(one_minus, common_stages, last_common_stage, member_taps, default_taps),
    threads_of_a_job,
    *(transformer_taps, hf_taps, layer_pairs, hidden_pairs, last_pair, last_hidden),
    if_tap,
)
for _resolver in _RESOLVERS:
    OmegaConf.register_new_resolver(_resolver.__name__, _resolver, replace=True)
