"""The configuration: where it lies, its resolvers, and the options `teacher=` and `student=`.

Importing this module registers the resolvers; it loads neither torch nor lightning.
"""

import contextlib
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from kd.config.record import NO_PART_OF_NUMBERS
from kd.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"

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


def member_names(members: Iterable[str]) -> dict[str, str]:
    """The members of an ensemble and their models; `resnet20` named again is `resnet20-2`."""
    seen: Counter[str] = Counter()
    names = {}
    for model in members:
        seen[model] += 1
        names[model if seen[model] == 1 else f"{model}-{seen[model]}"] = model
    return names


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


@functools.cache
def _taps_of(model: str) -> dict[str, str]:
    """Kept, since a config asks for it often and composing takes a tenth of a second."""
    taps: dict[str, str] = plain(model_config(model).taps)
    return taps


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


def register_models(*folders: Path) -> None:
    """Offer every `model/<name>.yaml` below `folders` as `teacher=<name>` and `student=<name>`.

    This is why a model is one YAML file and not three.
    """
    # Hydra copies the whole store for every group that `--help` lists, about 140 times. What is
    # loaded from it is copied anyway, so one store will do.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    store = ConfigStore.instance()
    _taps_of.cache_clear()
    names = {path.stem for folder in folders for path in (folder / "model").glob("*.yaml")}
    for name in sorted(names):
        for role in ("teacher", "student"):
            node = {"defaults": [{"/model@_here_": name}]}
            store.store(group=role, name=name, node=node, provider="kd")


def model_config(name: str) -> DictConfig:
    """`model/<name>.yaml` composed, as `teacher=<name>` would have it: name, net and taps.

    Raises:
        UserError: there is no such model; names the nearest.
    """
    with contextlib.ExitStack() as stack:
        if not GlobalHydra.instance().is_initialized():  # a config composed elsewhere
            stack.enter_context(initialize_config_dir(str(CONF_DIR), version_base="1.3"))
        loader = GlobalHydra.instance().config_loader()
        names = loader.get_group_options("model")
        if name not in names:
            raise UserError(f"there is no model {name!r}; {nearest(name, names)}")
        cfg: DictConfig = compose(f"model/{name}").model
    return cfg


def plain(cfg: Any) -> Any:
    """Resolve a config to plain dicts, lists and scalars."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


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
