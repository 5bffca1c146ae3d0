"""Comparison of a finished run's data and weights with those that its config names now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kd.build.data import build_data
from kd.build.parts import build_net, distiller_class
from kd.config.members import is_ensemble, member_configs
from kd.data.base import DataModule
from kd.teachers.registry import Registry
from kd.training.controls import control_of
from kd.training.fingerprints import data_fingerprint, weights_hash
from kd.training.identify import difference, start_checkpoint
from kd.training.start_weights import load_start
from kd.training.teacher_net import configured_teacher
from kd.training.teacher_run import teacher_key
from kd.validation.check import check_config


def changed_inputs(cfg: DictConfig, result: Mapping[str, Any]) -> str:
    """Name what has changed since a finished run, of the data and weights that its config names.

    The data are loaded and hashed. A teacher that the registry no longer holds is not compared, nor
    are weights whose file is gone.

    Args:
        cfg: the run's config.
        result: of the finished run.

    Returns:
        Such as "data 'digits' (fingerprint … then, … now)"; empty if nothing has changed.

    Raises:
        UserError: the config has a mistake, or the data are missing.
    """
    checked = check_config(cfg)
    data = build_data(cfg)
    fingerprint = data_fingerprint(data)
    if fingerprint is None:
        return f"possibly data {data.name!r}: {data.limits.registry}"
    problems = [difference(f"data {data.name!r}", result.get("data/fingerprint"), fingerprint)]
    pretrained = distiller_class(cfg).teacher_kind == "pretrained"
    if not problems[0] and pretrained and checked.method.needs_teacher:
        now = _teacher_hashes(cfg, data)
        if now is not None:
            problems.append(
                difference("the teacher's weights", result.get("teacher/weights_hash"), now)
            )
    path = start_checkpoint(cfg)
    if path is not None and Path(path).exists():
        net = build_net(cfg, "student", data)
        load_start(net, Path(path), cfg.student.get("checkpoint_key"), "student")
        start = weights_hash(net)
        problems.append(
            difference(f"student.checkpoint={path}", result.get("student/start_hash"), start)
        )
    return " and ".join(filter(None, problems))


def _teacher_hashes(cfg: DictConfig, data: DataModule) -> str | list[str] | None:
    """Hash the weights of the teacher that the run would use; None: there are none now."""
    if not is_ensemble(cfg):
        return _teacher_hash(cfg, data)
    found = [_teacher_hash(alone, data) for alone in member_configs(cfg).values()]
    known = [each for each in found if each is not None]
    return known if len(known) == len(found) else None


def _teacher_hash(cfg: DictConfig, data: DataModule) -> str | None:
    path = cfg.teacher.checkpoint
    if control_of(cfg) == "untrained":
        there = True
    elif path is None:
        there = Registry(Path(cfg.paths.teachers)).find(teacher_key(cfg, data)) is not None
    else:
        there = Path(path).exists()
    return weights_hash(configured_teacher(cfg, data, _never).net) if there else None


def _never(*_: Any) -> None:
    raise AssertionError("a teacher that is there is not trained")
