"""Checks that data, nets, mode and objectives are of one task."""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd.build.data import data_task
from kd.build.given import GivenParts
from kd.build.parts import distiller_class, has_own_step, peer_configs, step_owner
from kd.config.members import is_ensemble, member_configs
from kd.config.targets import resolve_target
from kd.objectives.base import Objective
from kd.tasks import TASKS, task_named
from kd.tasks.base import Task

_IMAGES = "image_classification"  # of nets that name no task


def run_task(cfg: DictConfig, given: GivenParts) -> Task:
    """Return the task of a run's data."""
    return data_task(cfg) if given.data is None else task_named(given.data.task)


def task_problems(cfg: DictConfig, given: GivenParts) -> Iterator[str]:
    """Find nets, and a mode, of another task than the data's."""
    task = run_task(cfg, given)
    for place, net in _nets(cfg, given):
        other = net_task(net)
        if other is not None and other != task.name:
            yield (
                f"{place}: a net for {TASKS[other].title}, and data={cfg.data.name} is for "
                f"{task.title}; choose a net of that task, such as {task.student}"
            )
    if (
        not task.classifies
        and distiller_class(cfg).teacher_kind == "pretrained"
        and is_ensemble(cfg)
    ):
        yield (
            f"teacher=ensemble: outputs of nets for {task.title} cannot be averaged; name one "
            "teacher"
        )
    if task.name not in distiller_class(cfg).tasks:
        remedy = f"method={task.method}" if has_own_step(cfg) else "mode=offline"
        yield f"{step_owner(cfg)}: not for {task.title}; choose {remedy}"


def objective_task_problems(
    cfg: DictConfig, given: GivenParts, objectives: Mapping[str, Objective]
) -> Iterator[str]:
    """Find objectives that cannot compare the nets of the data's task."""
    task = run_task(cfg, given)
    for name, objective in objectives.items():
        if task.name not in objective.tasks:
            titles = " and ".join(TASKS[each].title for each in objective.tasks if each in TASKS)
            yield (
                f"method.objectives.{name}: {type(objective).__name__} is for {titles}, and "
                f"data={cfg.data.name} is for {task.title}; choose a method of that task, such as "
                f"method={task.method}"
            )
        elif objective.needs_places and given.student is None and _two_stage(cfg.student.net):
            yield (
                f"method.objectives.{name}: {type(objective).__name__} compares the places of an "
                f"image, and student={cfg.student.name} finds its regions itself; choose a "
                "one-stage student, or a method on maps, such as method=cwd"
            )


def _two_stage(net: DictConfig) -> bool:
    return bool(getattr(resolve_target(net["_target_"]), "two_stage", False))


def net_task(net: DictConfig | None) -> str | None:
    """Return the task of a net's class; None: it has no class to ask."""
    target = None if net is None else OmegaConf.select(net, "_target_")
    if not isinstance(target, str):
        return None
    return str(getattr(resolve_target(target), "task", _IMAGES))


def _nets(cfg: DictConfig, given: GivenParts) -> Iterator[tuple[str, Any]]:
    """Place and config of every net that the run builds."""
    kind = distiller_class(cfg).teacher_kind
    if given.student is None:
        yield f"student={cfg.student.name}", cfg.student.net
    if kind == "pretrained" and is_ensemble(cfg):
        yield from (
            (f"teacher.members: {n}", m.teacher.net) for n, m in member_configs(cfg).items()
        )
    elif kind == "pretrained" and given.teacher is None:
        yield f"teacher={cfg.teacher.name}", cfg.teacher.net
    elif kind == "peers":
        yield from ((f"mode.peers: {peer.name}", peer.net) for peer in peer_configs(cfg))
