"""Parts of a run's teacher that train along with the student, as `teacher.update` names them."""

import copy
import logging

from omegaconf import DictConfig
from torch import nn

from kd.config.compose import plain
from kd.teachers.frozen import FrozenTeacher
from kd.teachers.updated import UpdatedTeacher, changing_tensors

log = logging.getLogger(__name__)


def check_parts(cfg: DictConfig, net: nn.Module) -> None:
    """Refuse parts that the net does not have.

    Raises:
        UserError: names the nearest part that it has.
    """
    changing_tensors(net, _parts(cfg))


def own_net(cfg: DictConfig, given: nn.Module) -> nn.Module:
    """Return a given net, or a copy if parts of it train: the caller's stays as it is."""
    return copy.deepcopy(given) if _parts(cfg) else given


def with_update(cfg: DictConfig, live: FrozenTeacher) -> UpdatedTeacher | None:
    """Return the teacher of training if parts of it train, of which no output is cached.

    Args:
        cfg: the run's config.
        live: the teacher without a cache.
    """
    if not (parts := _parts(cfg)):
        return None
    log.info("parts of the teacher train along (%s): it runs on every batch", ", ".join(parts))
    return UpdatedTeacher(live, parts, cfg.teacher.update_loss, cfg.teacher.update_lr)


def _parts(cfg: DictConfig) -> list[str]:
    return list(plain(cfg.teacher.get("update")) or ())
