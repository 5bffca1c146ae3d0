"""OmegaConf resolvers that the YAML files use."""

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import OmegaConf

from kd.config.compose import _taps_of
from kd.config.members import member_names
from kd.errors import UserError

# MKL's own count, where it is set, wins.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def _one_minus(*terms: float) -> float:
    """The share that is left to the hard labels: `${one_minus:${method.alpha}}`."""
    return round(1.0 - sum(map(float, terms)), 12)


def _common_stages(teacher: Mapping[str, str] | None, student: Mapping[str, str]) -> list[str]:
    """The stage taps that both nets have, in order: `${common_stages:${teacher.taps},…}`."""
    return sorted(t for t in student if t.startswith("stage") and t in (teacher or {}))


def _last_common_stage(teacher: Mapping[str, str] | None, student: Mapping[str, str]) -> str:
    """The deepest stage tap that both nets have: `${last_common_stage:${teacher.taps},…}`."""
    return max(_common_stages(teacher, student), default="stage1")


def _member_taps(members: Iterable[str], features: str | None) -> dict[str, str]:
    """The taps of the member `features`; without one, of the first, until a method reads them.

    Names that mean nothing have no taps here: the check of the config reports them.
    """
    names = member_names(members)
    model = names.get(features or next(iter(names), ""))
    try:
        return _taps_of(model) if model else {}
    except UserError:
        return {}


OmegaConf.register_new_resolver("member_taps", _member_taps, replace=True)


def _threads_of_a_job(launcher: Mapping[str, Any]) -> dict[str, str]:
    """What tells torch, before it is loaded, how many threads a job of a sweep may use.

    One where joblib runs jobs side by side: more would fight for the cores, and joblib itself
    leaves cores / n_jobs to each. What submitit reserves for a job. Elsewhere as many as there are.
    """
    alone = "joblib" in str(launcher.get("_target_"))
    threads = 1 if alone else launcher.get("cpus_per_task")
    return {} if threads is None else dict.fromkeys(_THREADS, str(threads))


OmegaConf.register_new_resolver("threads_of_a_job", _threads_of_a_job, replace=True)


OmegaConf.register_new_resolver("one_minus", _one_minus, replace=True)


OmegaConf.register_new_resolver("common_stages", _common_stages, replace=True)


OmegaConf.register_new_resolver("last_common_stage", _last_common_stage, replace=True)
