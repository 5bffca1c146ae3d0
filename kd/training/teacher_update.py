"""Parts of a run's teacher that train along with the student, as `teacher.update` names them."""

import copy

from omegaconf import DictConfig
from torch import nn

from kd.config.compose import plain
from kd.teachers.base import Teacher
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.updated import UpdatedTeacher, changing_tensors


def check_parts(cfg: DictConfig, net: nn.Module) -> None:
    """Refuse parts that the net does not have.

    Raises:
        UserError: names the nearest part that it has.
    """
    changing_tensors(net, _parts(cfg))


def own_net(cfg: DictConfig, given: nn.Module) -> nn.Module:
    """Return a given net, or a copy if parts of it train: the caller's stays as it is."""
    return copy.deepcopy(given) if _parts(cfg) else given


def with_update(cfg: DictConfig, live: FrozenTeacher, frozen: Teacher) -> Teacher:
    """Return the teacher of training.

    Args:
        cfg: the run's config.
        live: the teacher without a cache.
        frozen: the teacher if no part of it trains: `live`, or with its cache.
    """
    if not (parts := _parts(cfg)):
        return frozen
    return UpdatedTeacher(live, parts, cfg.teacher.update_loss, cfg.teacher.update_lr)


def _parts(cfg: DictConfig) -> list[str]:
    return list(plain(cfg.teacher.get("update")) or ())
